"""What a host's UNet call needs: whose rows it has, their scales, and the UNet calls that must come before it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from .arithmetic import takes_few_kernels
from .asking import with_scales
from .call import UNetCall
from .composition import CROSS, Follower
from .folds import Folds
from .injecting import Inject, Injection, Recording
from .parts import ConditionalRows, Member, Part
from .passes import ConceptPass, Maps
from .rows import Name, RowLedger
from .rules.protocol import ErasingRule
from .runner import UNetRunner


def plan_call(runner: UNetRunner, members: Sequence[Member], call: UNetCall) -> Inject:
    """Return the pass of a host's UNet call, after all UNet calls that it needs to be known before.

    Raises ErasureError for rows that are unknown, and what the members' rules and recorded images refuse.
    """
    parts = [part for group in _parts(runner.folds, members, call) for part in with_scales(runner, group)]
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
    context = folds.context_of(call.context, indices, rows)
    return ConditionalRows(call, rows, tuple(names[index] for index in indices), indices, context)


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
    every = range(recorded.batch)
    rows = ConditionalRows(recorded, slice(0, recorded.batch), part.taken.names, every, recorded.context)
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
