"""Asks the scale rules for the rows of a UNet call, with what they read from the UNet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch

from .call import UNetCall
from .encoding import EncodedConcept
from .parts import ConditionalRows, Member, Part
from .readings import Answer, as_read, is_longer, is_misread, read, read_together, side_by_side
from .recorder import Reading
from .runner import UNetRunner
from .scales.scale_rules import ScaleRule


@dataclass(frozen=True, eq=False)
class _Question:
    """A question to the scale rules of one member: the numbers of the targets that must be read anew."""

    part: Part
    numbers: Sequence[int]

    @property
    def readings(self) -> dict[int, Sequence[Reading]]:
        """By number the readings of the rules that read something."""
        targets = self.part.member.erasure.targets
        found = {number: targets[number].rule.readings for number in self.numbers}
        return {number: readings for number, readings in found.items() if readings}

    @property
    def kinds(self) -> list[Reading]:
        """The kinds of these readings, each once: those of one kind are read in one run of the UNet."""
        return list(dict.fromkeys(one.kind for readings in self.readings.values() for one in readings))


def with_scales(runner: UNetRunner, parts: Sequence[Part]) -> list[Part]:
    """Return the parts of one ledger with their scales, read anew where that is needed."""
    rows = parts[0].taken
    context, size = rows.context, rows.call.size  # [rows, L, D]
    questions = []
    for part in parts:
        erasure = part.member.erasure
        numbers = erasure.resolved.unresolved(rows.names, context, size, erasure.in_first_tiles)
        if numbers is not None:
            questions.append(_Question(part, numbers))
    answers = _read(runner, rows, questions)
    for question in questions:
        inputs: dict[int, torch.Tensor | None] = dict.fromkeys(question.numbers)
        misread = set()
        for number, readings in question.readings.items():
            concept, rule = question.part.member.encoded[number], question.part.member.erasure.targets[number].rule
            inputs[number] = _inputs(rule, concept, answers)  # [rows, inputs, n]
            if any(answers[reading.kind].misread for reading in readings if reading not in rule.optional):
                misread.add(number)
        question.part.member.erasure.resolved.set_scales(rows.names, context, size, inputs, misread)
    return [replace(part, scales=part.member.erasure.resolved.batch(rows.names)) for part in parts]


def _inputs(rule: ScaleRule, concept: EncodedConcept, answers: Mapping[Reading, Answer]) -> torch.Tensor:
    """Return what a rule reads for a concept, float32 [rows, inputs, n].

    Of its optional readings that is NaN where they say less than they should.
    """
    found = []
    for reading in rule.readings:
        answer = answers[reading.kind]
        values = answer.inputs(reading, concept)  # [rows, its inputs, n or 1]
        is_lacking = answer.misread and reading in rule.optional
        found.append(torch.full_like(values, torch.nan) if is_lacking else values)
    return side_by_side(found)


@dataclass(frozen=True, eq=False)
class _Asked:
    """A kind of reading, who asks for it, the call that it is made in, and whether that call is misread."""

    kind: Reading
    members: Sequence[Member]
    call: UNetCall
    misread: bool

    @property
    def first(self) -> Member:
        """The member whose answers are kept."""
        return self.members[0]


def _asked(runner: UNetRunner, rows: ConditionalRows, kind: Reading, questions: Sequence[_Question]) -> _Asked:
    members = [question.part.member for question in questions if kind in question.kinds]
    call = as_read(rows.own, kind, members[0].erasure.as_text)
    return _Asked(kind, members, call, is_misread(runner, call, kind))


def _read(runner: UNetRunner, rows: ConditionalRows, questions: Sequence[_Question]) -> dict[Reading, Answer]:
    """Run the UNet once for each kind of reading, for all concepts together. Return the answers by kind.

    Kinds of predicted noise share a run where they can, and one of them may be read with the attention.
    """
    kinds = dict.fromkeys(kind for question in questions for kind in question.kinds)
    asked = [_asked(runner, rows, kind, questions) for kind in kinds]
    attention = [one for one in asked if not one.kind.predicted]
    predicted = [one for one in asked if one.kind.predicted]
    found = {}
    for one in attention:
        twin = _twin_of(one, predicted)
        found[one.kind] = _answer(runner, one, with_twin=twin is not None)
        if twin is not None:
            twin.first.erasure.answers.keep(twin.kind, twin.call, found[one.kind])
    together = _read_predicted(runner, [one for one in predicted if one.kind.reads_alone and not one.misread])
    for one in predicted:
        answer = together.get(one.kind) or _answer(runner, one)
        misread = one.misread or is_longer(one.call, one.kind, len(one.first.encoded[0].states))
        found[one.kind] = replace(answer, misread=misread)
    return found


def _answer(runner: UNetRunner, one: _Asked, with_twin: bool = False) -> Answer:
    """Return the answer to one kind of reading. ``with_twin``: see ``read``."""
    encoded, first = tuple(concept for member in one.members for concept in member.encoded), one.first
    ask = partial(
        read, runner, encoded=encoded, padding=first.padding, kind=one.kind, undisturbed=first.undisturbed,
        misread=one.misread, with_twin=with_twin,
    )  # fmt: skip
    return replace(first.erasure.answers.read(one.kind, one.call, ask, one.misread), misread=one.misread)


def _twin_of(one: _Asked, predicted: Sequence[_Asked]) -> _Asked | None:
    """Return the kind of predicted noise that can be read in the run of the UNet that attention is read in, if any.

    Both must give the UNet the same; one of them may leave pictures out.
    """
    if one.kind.noise is None or one.kind.size is None or one.misread:
        return None
    noise, size, timestep = one.kind.noise, one.kind.size, one.kind.timestep
    for other in predicted:
        if other.kind == one.kind.twin and not other.misread:
            calls = [asked.call.at_noise(noise, size, timestep) for asked in (one, other)]
            return other if calls[0].same_as(calls[1]) else None
    return None


def _read_predicted(runner: UNetRunner, asked: Sequence[_Asked]) -> dict[Reading, Answer]:
    """Return the answers of the kinds that one member asks for at one size, read in one run of the UNet."""
    groups: dict[tuple[Member, object], list[_Asked]] = {}
    for one in asked:
        groups.setdefault((one.first, one.kind.size), []).append(one)
    found: dict[Reading, Answer] = {}
    for (member, _), group in groups.items():
        if len(group) > 1:
            calls = {one.kind: one.call for one in group}
            ask = partial(read_together, runner, undisturbed=member.undisturbed)
            found |= member.erasure.answers.read_together(calls, ask)
    return found
