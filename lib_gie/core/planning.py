"""What a host's UNet call needs: whose rows it has, their scales, and the UNet calls that must come before it."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from .arithmetic import takes_few_kernels
from .call import Rows, UNetCall
from .composition import CROSS, Follower
from .erasure import Erasure
from .folds import Encoded, Folds
from .injecting import Inject, Injection, Recording
from .passes import ConceptPass, Maps
from .readings import Answer, as_read, is_longer, is_misread, read, read_together
from .recorder import Reading
from .rows import Name, RowLedger
from .rules.protocol import ErasingRule
from .runner import Undisturbed, UNetRunner


@dataclass(eq=False)
class Member:
    """An erasure that is attached to a UNet.

    ``undisturbed``: a context around UNet calls that no host makes. ``follower``: its hooks that keep a composition.
    ``uses``: how often it is attached.
    """

    erasure: Erasure
    undisturbed: Undisturbed
    follower: Follower | None
    uses: int = 0
    handles: list[tuple[nn.Module, RemovableHandle]] = field(default_factory=list)

    @cached_property
    def encoded(self) -> Encoded:
        """The concepts as the text encoder sees them."""
        return tuple(target.encoded for target in self.erasure.targets)

    @property
    def padding(self) -> float:
        """See ErasureSettings."""
        return self.erasure.settings.padding

    @property
    def is_separate(self) -> bool:
        """Tell whether the concepts have UNet passes of their own."""
        return self.erasure.settings.concept_pass == "separate"


@dataclass(frozen=True, eq=False)
class ConditionalRows:
    """The conditional rows of a UNet call, by their names, as one ledger knows them. ``numbers``: their positions."""

    call: UNetCall
    rows: Rows
    names: tuple[Hashable, ...]
    numbers: Sequence[int]

    @property
    def context(self) -> torch.Tensor:
        """The context of these rows, [rows, L, D]."""
        return self.call.context[self.rows]

    @cached_property
    def own(self) -> UNetCall:
        """The call of these rows alone."""
        return self.call.rows(self.rows)


@dataclass(frozen=True, eq=False)
class Part:
    """A member and the rows that it erases from.

    ``scales``: w of each concept, float32 [rows, n], on the CPU. ``maps``: of the concepts' own passes.
    """

    member: Member
    taken: ConditionalRows
    scales: tuple[torch.Tensor, ...] = ()
    maps: Maps | None = None

    @cached_property
    def any_scale(self) -> bool:
        """Tell whether any scale is not zero."""
        return any(bool((scale != 0).any()) for scale in self.scales)

    @property
    def injects(self) -> bool:
        """Tell whether something is erased in this step."""
        return self.member.erasure.injects and self.any_scale


def plan_call(runner: UNetRunner, members: Sequence[Member], call: UNetCall) -> Inject:
    """Return the pass of a host's UNet call, after all UNet calls that it needs to be known before.

    Raises ErasureError for rows that are unknown, and what the members' rules and recorded images refuse.
    """
    parts = [part for group in _parts(runner.folds, members, call) for part in _with_scales(runner, group)]
    ready: list[Part] = []
    followed: list[tuple[Follower, Part]] = []
    for part in parts:
        kinds, recorded = _other_image(part)
        own = recorded if CROSS in kinds else None
        ready.append(replace(part, maps=_concept_maps(runner, part, own)) if _has_own_pass(part) else part)
        follower = part.member.follower
        if kinds and follower is not None:
            with follower.keeping(kinds, recorded.batch):
                _repeat(runner, part, recorded, [one for one in parts if one is not part])
            followed.append((follower, part))
    for follower, part in followed:
        follower.replace_in(part.taken.rows, call.batch)
    device = call.context.device
    runner.attach_before_out(device)
    return Inject(
        runner.layers, runner.folds, call.batch, _injections(runner.folds, ready, device), _recordings(ready),
        runs_once=any(one.is_separate or one.erasure.is_paired for one in members),
    )  # fmt: skip


def _parts(folds: Folds, members: Sequence[Member], call: UNetCall) -> list[list[Part]]:
    """Return the parts of a call; those of one ledger, which have the same rows, together."""
    groups: dict[RowLedger, list[Part]] = {}
    taken: dict[RowLedger, ConditionalRows | None] = {}
    for member in members:
        ledger = member.erasure.ledger
        if ledger not in taken:
            taken[ledger] = _conditional(folds, call, ledger.take(call.latents, call.context))
        rows = taken[ledger]
        if rows is not None:
            groups.setdefault(ledger, []).append(Part(member, rows))
    return list(groups.values())


def _conditional(folds: Folds, call: UNetCall, names: Sequence[Name]) -> ConditionalRows | None:
    indices = [index for index, name in enumerate(names) if name is not None]
    if not indices:
        return None
    rows = folds.rows(indices, call.latents.device)
    return ConditionalRows(call, rows, tuple(names[index] for index in indices), indices)


# -- scales ------------------------------------------------


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


def _with_scales(runner: UNetRunner, parts: Sequence[Part]) -> list[Part]:
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
            concept = question.part.member.encoded[number]
            found = [answers[reading.kind].inputs(reading, concept) for reading in readings]
            inputs[number] = torch.cat(found, 1)  # [rows, inputs, n]
            if any(answers[reading.kind].misread for reading in readings):
                misread.add(number)
        question.part.member.erasure.resolved.set_scales(rows.names, context, size, inputs, misread)
    return [replace(part, scales=part.member.erasure.resolved.batch(rows.names)) for part in parts]


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

    Kinds of predicted noise share a run where they can.
    """
    kinds = dict.fromkeys(kind for question in questions for kind in question.kinds)
    asked = [_asked(runner, rows, kind, questions) for kind in kinds]
    _read_predicted(runner, [one for one in asked if one.kind.reads_alone and not one.misread])
    found = {}
    for one in asked:
        encoded, first = tuple(concept for member in one.members for concept in member.encoded), one.first
        ask = partial(
            read, runner, encoded=encoded, padding=first.padding, kind=one.kind, undisturbed=first.undisturbed,
            misread=one.misread,
        )  # fmt: skip
        answer = first.erasure.answers.read(one.kind, one.call, ask, one.misread)
        misread = one.misread or is_longer(one.call, one.kind, len(first.encoded[0].states))
        found[one.kind] = replace(answer, misread=misread)
    return found


def _read_predicted(runner: UNetRunner, asked: Sequence[_Asked]) -> None:
    """Have the kinds that one member asks for, at one size, read in one run of the UNet, and keep the answers."""
    groups: dict[tuple[Member, object], list[_Asked]] = {}
    for one in asked:
        groups.setdefault((one.first, one.kind.size), []).append(one)
    for (member, _), group in groups.items():
        if len(group) > 1:
            calls = {one.kind: one.call for one in group}
            member.erasure.answers.fill(calls, partial(read_together, runner, undisturbed=member.undisturbed))


# -- what must be known before ------------------------------------------------


def _has_own_pass(part: Part) -> bool:
    recorder = part.member.erasure.recorder
    return part.member.is_separate and (part.injects or (recorder is not None and recorder.is_due))


def _concept_maps(runner: UNetRunner, part: Part, recorded: UNetCall | None) -> Maps:
    """Return M* of each concept from a UNet call under it, Algorithm 1's DM(z_t, c*, t).

    ``recorded``: the call of the image without erasure, where the prompt's maps of that image are taken over: these
    still ask for the concept where it was, so it must be inhibited there.
    """
    member, call = part.member, recorded or part.taken.own
    found: Maps = {}
    for number, encoded in enumerate(member.encoded):
        states = encoded.states.to(call.context.device, call.context.dtype)  # [L*, D]
        own = ConceptPass(runner.layers, runner.folds, call.batch, member.encoded, member.padding, number)
        runner.run_own(own, call.with_context(states.expand(call.batch, -1, -1)), member.undisturbed)
        for index, maps in own.maps.items():
            found.setdefault(index, []).append(maps)
    return found


def _other_image(part: Part) -> tuple[frozenset[str], UNetCall]:
    """Write the call down for another trajectory. Returns what to take over from the one before, and its call."""
    erasure = part.member.erasure
    if erasure.trace is not None:
        erasure.trace.record(part.taken.names, part.taken.own)
    if erasure.composition is None:
        return frozenset(), part.taken.call
    recorded = erasure.composition.next_call(part.taken.names, part.taken.own)
    return (erasure.follows if part.any_scale else frozenset()), recorded  # without a scale both images are the same


def _repeat(runner: UNetRunner, part: Part, recorded: UNetCall, others: Sequence[Part]) -> None:
    """Run the recorded call once more, for its queries and keys. What others erase is erased from it, too."""
    rows = ConditionalRows(recorded, slice(0, recorded.batch), part.taken.names, range(recorded.batch))
    same = [replace(one, taken=rows, maps=None) for one in others if one.taken.names == part.taken.names]
    device = recorded.context.device
    again = Inject(runner.layers, runner.folds, recorded.batch, _injections(runner.folds, same, device), runs_once=True)
    runner.run_own(again, recorded, part.member.undisturbed)


# -- what is done ------------------------------------------------


def _injections(folds: Folds, parts: Sequence[Part], device: torch.device) -> list[Injection]:
    """Return the terms to be added: one for all concepts of the same rows where the rule sums them up.

    Concepts with passes of their own, and those of a rule that does not, have a term by erasure.
    """
    groups: dict[tuple[ErasingRule, RowLedger, float, Member | None], list[Part]] = {}
    for part in parts:
        if part.injects:
            rule = part.member.erasure.rule
            alone = None if rule.is_sum and part.maps is None else part.member
            groups.setdefault((rule, part.member.erasure.ledger, part.member.padding, alone), []).append(part)
    found = []
    for (rule, _, padding, _), group in groups.items():
        encoded = tuple(one for part in group for one in part.member.encoded)
        scales = tuple(scale for part in group for scale in part.scales)
        taken, maps = group[0].taken, group[0].maps
        can_spread = rule.adds_before and maps is None and takes_few_kernels(device)
        is_spread = can_spread and not isinstance(taken.rows, slice)
        spread = (tuple(taken.numbers), taken.call.batch) if is_spread else None
        rows = slice(0, taken.call.batch) if is_spread else taken.rows
        columns = folds.scales(rule, scales, encoded, padding, device, spread)
        found.append(Injection(rule, rows, encoded, padding, columns, maps))
    return found


def _recordings(parts: Sequence[Part]) -> list[Recording]:
    found = []
    for part in parts:
        member, rows, recorder = part.member, part.taken, part.member.erasure.recorder
        if recorder is not None:
            found.append(Recording(recorder, rows.rows, rows.names, member.encoded, member.padding, part.maps))
    return found
