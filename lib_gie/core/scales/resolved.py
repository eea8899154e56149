"""The scales of one generation: what each row's rules have said, and the w that follows from it."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass

import torch

from lib_gie.core.call import Size
from lib_gie.core.encoding import EncodedConcept
from lib_gie.core.rules.protocol import ErasingRule
from lib_gie.errors import OptionError
from lib_gie.options import FLOOR

from .fitted import Fitted
from .scale_rules import (
    MOST_EMPHASIS,
    NAMED,
    UNKNOWN_PROMPT,
    Guarded,
    PromptFacts,
    Replacement,
    ScaleRule,
    emphasis_factor,
)

_SAME_DIRECTION = 0.99
"""Least cosine between a context's first state and BOS's; half precision keeps far more."""

_NOTICED = 1.02
"""Less growth of a context's first state is rounding."""


@dataclass(frozen=True, eq=False)
class Target:
    """A concept to erase and the rule that gives its scale.

    ``floor``: w is never weaker than this, also where rule, concept's weight or strength say so; 0: there is none.
    """

    encoded: EncodedConcept
    rule: ScaleRule
    floor: float = FLOOR.default

    def __post_init__(self) -> None:
        FLOOR.check(self.floor)


def _identity(context: torch.Tensor) -> tuple[object, ...] | None:
    """Return what is equal for the same memory while nothing writes to it; None where torch does not keep count."""
    if context.is_inference():
        return None
    storage = context.untyped_storage()._cdata  # unlike its address, also known of a tensor without numbers
    return storage, context.storage_offset(), context.shape, context.stride(), context._version


class _Seen:
    """A context [rows, L, D] that scales were found under, what the host knew of the prompts, and the latents' size."""

    def __init__(self, context: torch.Tensor, facts: Sequence[PromptFacts], size: Size):
        # kept alive, so that nothing else can come to lie in its memory
        self._context, self._identity, self._values = context, _identity(context), context.detach().clone()
        self._facts, self._size = tuple(facts), size

    def is_same(self, context: torch.Tensor, facts: Sequence[PromptFacts], size: Size) -> bool:
        """Tell whether context, facts and size are the same.

        Hosts that pass the same tensor at every step need not wait for the device.
        """
        if self._size != size or self._facts != tuple(facts):
            return False
        if self._identity is not None and _identity(context) == self._identity:
            return True
        return self._values.shape == context.shape and torch.equal(self._values, context)


@dataclass(frozen=True, eq=False)
class _Found:
    """The answer of a rule for one row: w before weight, strength and emphasis, float32 [n]; and why not that alone.

    ``replaced``: by what a weaker answer was replaced; None where none was.
    ``presence``: how present the concept was found to be in the prompt, 0 to 1; None where nothing tells that.
    """

    base: torch.Tensor
    replaced: Replacement | None = None
    presence: float | None = None

    def or_stronger(self, other: _Found) -> _Found:
        """Return the stronger of both, token by token, with the replacement that is part of it."""
        base = torch.minimum(self.base, other.base)  # [n]
        replaced = [one.replaced for one in (self, other) if one.replaced and bool((one.base <= base).any())]
        known = [one.presence for one in (self, other) if one.presence is not None]
        return _Found(base, replaced[0] if replaced else None, max(known, default=None))


def _presence(fitted: Fitted, concept: str, row: torch.Tensor) -> float | None:
    """Return how present a concept is where this is its answer, float32 [n]: 0 to 1, None where that tells nothing.

    An answer is the weaker the less present the concept is. ``concept``: its case-folded text.
    """
    if not fitted.is_for(concept) or not fitted.in_full:
        return None
    return min(1.0, float(row.mean()) / fitted.in_full) + 0.0  # no -0.0


def _doubted(rule: Guarded, concept: str, row: torch.Tensor, doubt: str) -> _Found:
    """Return a rule's answer, float32 [n], or what stands behind it where that is stronger and there is a doubt."""
    if not doubt:
        return _Found(row, presence=_presence(rule.adapter, concept, row))
    least, presence = rule.behind(doubt), 1.0 if doubt == NAMED else None
    used = bool((row > least).any())
    return _Found(row.clamp(max=least), rule.replacement(doubt) if used else None, presence)


def _emphasis(context: torch.Tensor, facts: Sequence[PromptFacts], states: torch.Tensor) -> list[float]:
    """Return the largest emphasis in each row's prompt: what its text says, times what all of it grew by later.

    ``context``: [rows, L, D]; ``states``: a concept's, [L*, D]. The WebUI's emphasis "Original" multiplies all of a
    prompt's states so that their mean stays: where much is made weak, the rest gets strong. Every context begins with
    BOS, whose state is the same in all texts.
    """
    bos, length = states[0].float().to(context.device), len(states)  # [D]
    if context.shape[1] % length:
        return [known.emphasis for known in facts]
    first = context[:, ::length].float()  # [rows, contexts, D]
    grown = first.norm(dim=-1) / bos.norm().clamp_min(1e-8)  # [rows, contexts]
    is_bos = torch.cosine_similarity(first, bos, dim=-1).abs() > _SAME_DIRECTION  # [rows, contexts]
    most = torch.where(is_bos & (grown > _NOTICED), grown, 1.0).amax(1)  # [rows]
    return [known.emphasis * more for known, more in zip(facts, most.tolist(), strict=True)]


class ResolvedScales:
    """The scales w of a generation's conditional rows, found when the UNet is first called for them.

    ``targets``: the concepts with their rules. ``strength``: multiplies every scale. ``rule``: what w means.
    """

    def __init__(self, targets: Sequence[Target], strength: float, rule: ErasingRule):
        self.targets, self._strength, self._rule = tuple(targets), strength, rule
        self.values: dict[Hashable, tuple[torch.Tensor, ...]] = {}
        """By row: w of each concept, float32 [n]."""
        self.facts: dict[Hashable, PromptFacts] = {}
        """By row what the host knows of its prompt; a row that it says nothing of is UNKNOWN_PROMPT."""
        self._found: dict[Hashable, tuple[_Found, ...]] = {}
        self._sizes: dict[Hashable, Size] = {}  # of the rows whose scales are found for all as it is now
        self._seen: dict[tuple[Hashable, ...], _Seen] = {}
        self._batches: dict[tuple[Hashable, ...], tuple[torch.Tensor, ...]] = {}  # of ``values``

    def go_on_from(self, other: ResolvedScales, changed: bool = True) -> None:
        """Take over what others of the same concepts hold: w never gets weaker than that.

        ``changed``: whether something that scales depend on has (the model, its networks, the pass): then all are read
        again.
        """
        self.values, self._found, self.facts = dict(other.values), dict(other._found), dict(other.facts)
        self._batches.clear()
        if not changed:
            self._sizes, self._seen = dict(other._sizes), dict(other._seen)

    def read_again(self) -> None:
        """Find all scales again, for something that they depend on has changed; the stronger of both stay."""
        self._sizes.clear()
        self._seen.clear()

    def unresolved(
        self, rows: Sequence[Hashable], context: torch.Tensor, size: Size, in_first_tiles: bool = False
    ) -> list[int] | None:
        """Return the numbers of the targets to be read anew for these conditional rows; None where nothing has changed.

        ``context``: [rows, L, D]; ``size``: of the latents. ``in_first_tiles``: whether the rows are those of a tile in
        the first step. These are read:

        - all targets where the rows are new; where everything is read again, those whose rule reads something;
        - later, where the prompt has changed (prompt editing, another prompt for Hires. fix), those whose rule reads
          the prompt alone: the paper finds w once, at t = T, and would miss a concept that comes in on the way;
        - at another size, those that are read at the image's own.

        An empty list says that only the emphasis may be another.
        """
        readings = [target.rule.readings for target in self.targets]
        if not all(row in self._sizes for row in rows):
            known = all(row in self._found for row in rows)  # then what reads nothing has nothing new to say
            return [index for index, read in enumerate(readings) if read or not known]
        if in_first_tiles:  # the concept may be in any of the image's tiles
            return [index for index, read in enumerate(readings) if any(one.size is None for one in read)]
        seen = self._seen.get(tuple(rows))
        if seen is not None and seen.is_same(context, self._facts_of(rows), size):
            return None
        resized = any(self._sizes[row] != size for row in rows)
        return [
            index
            for index, read in enumerate(readings)
            if any(one.reads_prompt or (resized and one.size is None) for one in read)
        ]

    def set_scales(
        self,
        rows: Sequence[Hashable],
        context: torch.Tensor,
        size: Size,
        inputs: Mapping[int, torch.Tensor | None],
        misread: Collection[int] = (),
    ) -> None:
        """Find w for these rows under ``context`` [rows, L, D]. It is never weaker than it was for an earlier prompt.

        ``inputs``: for the number of each target to be resolved what its rule reads, float32 [rows, inputs, n] or None.
        ``misread``: numbers of those that were read at another size than their adapter was fitted at.

        Raises OptionError where the prompt emphasises more than can be erased.
        """
        self._batches.clear()
        facts = self._facts_of(rows)
        found = {index: self._ask(index, read, facts, index in misread) for index, read in inputs.items()}
        emphasis = _emphasis(context, facts, self.targets[0].encoded.states)  # [rows]
        for number, row in enumerate(rows):
            old = self._found.get(row)
            known = range(len(self.targets))
            values = [found[k][number] if k in found or old is None else old[k] for k in known]
            if old is not None:
                values = [new.or_stronger(before) for new, before in zip(values, old, strict=True)]
            self._found[row] = tuple(values)
            pairs = zip(self.targets, values, strict=True)
            scales = [self._scale(target, one, emphasis[number], facts[number].factor) for target, one in pairs]
            for index, before in enumerate(self.values.get(row, ())):
                scales[index] = torch.minimum(scales[index], before)
            self.values[row] = tuple(scales)
            self._sizes[row] = size
        self._seen[tuple(rows)] = _Seen(context, facts, size)

    def _facts_of(self, rows: Sequence[Hashable]) -> list[PromptFacts]:
        return [self.facts.get(row, UNKNOWN_PROMPT) for row in rows]

    def _ask(self, index: int, read: torch.Tensor | None, facts: Sequence[PromptFacts], misread: bool) -> list[_Found]:
        """Return what a target's rule says, for each row."""
        target = self.targets[index]
        values = target.rule.scales(read, len(facts), target.encoded.count)  # [rows, n]
        if read is None or not isinstance(target.rule, Guarded):
            return [_Found(row) for row in values]
        named = [known.names(target.encoded.concept.key) for known in facts]
        doubts = target.rule.doubts(read, named, misread, [known.unlike for known in facts])
        key = target.encoded.concept.key
        return [_doubted(target.rule, key, row, doubt) for row, doubt in zip(values, doubts, strict=True)]

    def _scale(self, target: Target, found: _Found, emphasis: float, factor: float) -> torch.Tensor:
        """Return w of one row and target, float32 [n]."""
        power = self._rule.emphasis_power
        strength = target.encoded.concept.weight * self._strength * factor
        plain = (found.base * strength).clamp(max=target.floor)  # [n]
        if power and emphasis > MOST_EMPHASIS and bool((plain != 0).any()):
            raise OptionError(
                f"the largest emphasis in the prompt is {emphasis:.3g}; {target.encoded.concept.text[:100]!r} can be "
                f"erased up to {MOST_EMPHASIS:g}. Emphasise less, or all of it alike"
            )
        return self._rule.range.grown(plain, emphasis_factor(emphasis, power))  # [n]

    def replacements(self, row: Hashable) -> tuple[Replacement | None, ...]:
        """Return for each target by what a weaker answer was replaced for this row; None where none was."""
        return tuple(found.replaced for found in self._found.get(row, ())) or (None,) * len(self.targets)

    def presence(self, row: Hashable) -> tuple[float | None, ...]:
        """Return for each target how present it was found to be in a row's prompt, 0 to 1; None: nothing tells that."""
        return tuple(found.presence for found in self._found.get(row, ())) or (None,) * len(self.targets)

    def batch(self, rows: Sequence[Hashable]) -> tuple[torch.Tensor, ...]:
        """Return w of these conditional rows, per concept: float32 [rows, n].

        As long as w stays the same, it is the same tensors.
        """
        names = tuple(rows)
        if names not in self._batches:
            picked = [self.values[row] for row in names]
            stacked = (torch.stack([scales[index] for scales in picked]) for index in range(len(self.targets)))
            self._batches[names] = tuple(stacked)
        return self._batches[names]
