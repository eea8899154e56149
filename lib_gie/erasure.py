"""One generation's state: which concepts, how strongly, for which rows of which UNet calls."""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

import torch

from .checks import number_from
from .composition import Composition, Trace
from .encoding import EncodedConcept
from .errors import ErasureError, OptionError
from .rows import Identities, Name, RowLedger
from .scale import (
    LOWEST_SCALE,
    MOST_EMPHASIS,
    UNKNOWN_PROMPT,
    Guarded,
    PromptFacts,
    ScaleRule,
    emphasis_factor,
)
from .statistics import AttentionRecorder

CONCEPT_PASSES = ("fused", "separate")
MAX_STRENGTH = 3.0
_SAME_DIRECTION = 0.99
"""Least cosine between a context's first state and BOS's; half precision keeps far more."""

_NOTICED = 1.02
"""Less growth of a context's first state is rounding."""


@dataclass(frozen=True, eq=False)
class Target:
    """A concept to erase and the rule that gives its scale.

    ``floor``: w is never weaker, whatever the rule, the concept's weight and the strength say; 0: there is none.
    """

    encoded: EncodedConcept
    rule: ScaleRule
    floor: float = 0.0

    def __post_init__(self):
        number_from("floor", self.floor, LOWEST_SCALE, 0.0)


def _identity(context: torch.Tensor) -> tuple | None:
    """Equal for the same memory that nothing has written to in between; None where torch does not keep count."""
    if context.is_inference():
        return None
    return context.data_ptr(), context.shape, context.stride(), context._version


Size = tuple[int, ...]
"""Height and width of the latents."""


class _Seen:
    """A context [rows, L, D] that scales were found under, what the host knew of the prompts, and the latents' size."""

    def __init__(self, context: torch.Tensor, facts: Sequence[PromptFacts], size: Size):
        # kept alive, so that nothing else can come to lie in its memory
        self._context, self._identity, self._values = context, _identity(context), context.detach().clone()
        self._facts, self._size = tuple(facts), size

    def is_same(self, context: torch.Tensor, facts: Sequence[PromptFacts], size: Size) -> bool:
        """Whether all says the same. Hosts that pass the same tensor at every step need not wait for the device."""
        if self._size != size or self._facts != tuple(facts):
            return False
        if self._identity is not None and _identity(context) == self._identity:
            return True
        return self._values.shape == context.shape and torch.equal(self._values, context)


@dataclass(frozen=True, eq=False)
class _Found:
    """What a rule has said for one row: w before weight, strength and emphasis, float32 [n]; and why not that alone.

    ``doubt``: why the fixed scale took the place of a weaker answer, "" where it did not.
    """

    base: torch.Tensor
    doubt: str = ""

    def or_stronger(self, other: _Found) -> _Found:
        """The stronger of both, token by token."""
        return _Found(torch.minimum(self.base, other.base), self.doubt or other.doubt)


class Erasure:
    """What one generation erases. The host announces its rows; hooks (``hooks.attach``) do the rest.

    ``targets``: the concepts with their scale rules. ``strength``: multiplies every scale, 0 to 3.
    ``start``, ``end``: fractions of the sampling between which the inhibitors are injected.
    ``concept_pass``: "fused" takes M* from the prompt's own pass, as the authors' code does; "separate" from a UNet
    pass under the concept (Algorithm 1 of the paper), which costs one conditional pass per concept and step.
    ``padding``: 0 to 1. Beyond the paper: EOS and padding of the concept's text are inhibited, too, at this share of
    the scale of its own tokens. For models whose text encoder gathers a text's meaning there.
    ``recorder``: collects where the concept's attention is, if given.
    ``trace``: writes down what the conditional rows are given, if given; with scale 0 that is the image without
    erasure. ``composition``: keeps to such an image's; one for each generation.
    """

    def __init__(
        self,
        targets: Sequence[Target],
        *,
        strength: float = 1.0,
        start: float = 0.0,
        end: float = 1.0,
        concept_pass: str = "fused",
        padding: float = 0.0,
        recorder: AttentionRecorder | None = None,
        trace: Trace | None = None,
        composition: Composition | None = None,
    ):
        if not targets:
            raise OptionError("there is no concept to erase; name at least one, for example: knife")
        lengths = {len(target.encoded.states) for target in targets}
        if len(lengths) > 1:
            raise ErasureError(
                f"the concepts' contexts have lengths {' and '.join(map(str, sorted(lengths)))}; encode all with one "
                f"text encoder"
            )
        if concept_pass not in CONCEPT_PASSES:
            raise OptionError(f"concept pass is {concept_pass!r}; it must be one of {', '.join(CONCEPT_PASSES)}")
        self.targets = tuple(targets)
        self.strength = number_from("strength", strength, 0.0, MAX_STRENGTH)
        self.start = number_from("start", start, 0.0, 1.0)
        self.end = number_from("end", end, 0.0, 1.0)
        if self.start >= self.end:
            raise OptionError(f"start is {start:g} and end is {end:g}; start must be below end")
        self.concept_pass = concept_pass
        self.padding = number_from("padding", padding, 0.0, 1.0)
        self.recorder, self.trace, self.composition = recorder, trace, composition
        self.scales: dict[Hashable, tuple[torch.Tensor, ...]] = {}
        self.ledger = RowLedger()
        self.facts: dict[Hashable, PromptFacts] = {}
        """By row what the host knows of its prompt; a row that it says nothing of is UNKNOWN_PROMPT."""
        self._found: dict[Hashable, tuple[_Found, ...]] = {}
        self._sizes: dict[Hashable, Size] = {}  # of the rows whose scales are found for all as it is now
        self._seen_contexts: dict[tuple[Hashable, ...], _Seen] = {}
        self._steps = 0
        self._progress = 0.0

    @property
    def injects(self) -> bool:
        """Whether the sampling is between start and end."""
        return self.start <= self._progress and (self._progress < self.end or self.end == 1.0)

    @property
    def is_paired(self) -> bool:
        """Whether another trajectory is written down or followed."""
        return self.trace is not None or self.composition is not None

    @property
    def follows(self) -> frozenset[str]:
        """What of the other image's attention is taken over now: where nothing is inhibited it would bring all back."""
        if self.composition is None or not self.injects:
            return frozenset()
        return self.composition.kinds(self._progress)

    def begin(self, rows: Sequence[Name], progress: float, identify: Callable[[], Identities] | None = None) -> None:
        """Announce the rows of the coming UNet calls, in their order, before each denoising step.

        ``rows``: for each row, conditional ones: a name that stays the same over the steps (usually the image's
        number); unconditional ones: None. The step may be split into several UNet calls; unconditional rows
        may be left out. ``progress``: the fraction of the sampling that is done, 0 at the first step.
        ``identify``: gives, when the UNet is called, by what the rows are told apart; without it by their place.

        Raises ErasureError where conditional rows of the step before never reached the UNet, and what a UNet call
        before was refused for, if that was swallowed.
        """
        self.ledger.begin(rows, identify)
        self._steps += 1
        self._progress = progress
        if self.recorder is not None:
            self.recorder.begin_step()

    def invalidate(self) -> None:
        """Forget what was announced: the next UNet call raises unless ``begin`` comes first."""
        self.ledger.invalidate()

    @contextmanager
    def refusals_kept(self) -> Iterator[None]:
        """Note what is raised within it: a host that swallows it hears of it again."""
        try:
            yield
        except BaseException as error:
            self.ledger.refuse(error)
            raise

    def tiles(self, batch: int) -> AbstractContextManager[None]:
        """See ``RowLedger.tiles``."""
        return self.ledger.tiles(batch)

    def bring_forward(self, rows: Sequence[Name]) -> None:
        """See ``RowLedger.bring_forward``."""
        self.ledger.bring_forward(rows)

    def take(self, latents: torch.Tensor, context: torch.Tensor | None = None) -> tuple[Name, ...]:
        """Return the names of a UNet call's rows, see ``RowLedger.take``."""
        return self.ledger.take(latents, context)

    def finish(self) -> None:
        """Check, after the last step, that every announced conditional row was seen. Raises ErasureError."""
        self.ledger.finish()

    def go_on_from(self, other: Erasure, changed: bool = True) -> None:
        """Take over what another erasure of the same concepts has found: w never gets weaker than that.

        ``changed``: whether something that scales depend on has (the model, its networks, the pass): then all are read
        again.
        """
        self.scales, self._found, self.facts = dict(other.scales), dict(other._found), dict(other.facts)
        if not changed:
            self._sizes, self._seen_contexts = dict(other._sizes), dict(other._seen_contexts)

    def read_again(self) -> None:
        """Something that all scales depend on has changed: they are found again, and the stronger of both stay."""
        self._sizes.clear()
        self._seen_contexts.clear()

    def unresolved(self, rows: Sequence[Hashable], context: torch.Tensor, size: Size) -> list[int] | None:
        """Numbers of the targets to be read anew for these conditional rows; None where nothing has changed.

        ``context``: [rows, L, D]; ``size``: of the latents. All targets where the rows are new, and where all is to be
        read again those that read something. Later those whose rule reads the prompt alone, if that has changed (prompt
        editing, another prompt for Hires. fix): the paper finds w once, at t = T, and would miss a concept that comes
        in on the way. At another size those that are read at the image's own. Where the list is empty only the emphasis
        may be another.
        """
        reading = [target.rule.reading for target in self.targets]
        if not all(row in self._sizes for row in rows):
            known = all(row in self._found for row in rows)  # then what reads nothing has nothing new to say
            return [index for index, read in enumerate(reading) if read is not None or not known]
        if self.ledger.is_tiled and self._steps == 1:  # the concept may be in any of the image's tiles
            return [index for index, read in enumerate(reading) if read is not None and read.size is None]
        seen = self._seen_contexts.get(tuple(rows))
        if seen is not None and seen.is_same(context, self._facts_of(rows), size):
            return None
        resized = any(self._sizes[row] != size for row in rows)
        return [
            index
            for index, read in enumerate(reading)
            if read is not None and (read.reads_prompt or (resized and read.size is None))
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
        facts = self._facts_of(rows)
        found = {index: self._ask(index, read, facts, index in misread) for index, read in inputs.items()}
        emphasis = self._emphasis(context, facts)  # [rows]
        for number, row in enumerate(rows):
            old = self._found.get(row)
            values = [found[index][number] if index in found else old[index] for index in range(len(self.targets))]
            if old is not None:
                values = [new.or_stronger(before) for new, before in zip(values, old, strict=True)]
            self._found[row] = tuple(values)
            pairs = zip(self.targets, values, strict=True)
            scales = [self._scale(target, one, emphasis[number]) for target, one in pairs]
            if row in self.scales:
                scales = [torch.minimum(new, before) for new, before in zip(scales, self.scales[row], strict=True)]
            self.scales[row] = tuple(scales)
            self._sizes[row] = size
        self._seen_contexts[tuple(rows)] = _Seen(context, facts, size)

    def _facts_of(self, rows: Sequence[Hashable]) -> list[PromptFacts]:
        return [self.facts.get(row, UNKNOWN_PROMPT) for row in rows]

    def _ask(self, index: int, read: torch.Tensor | None, facts: Sequence[PromptFacts], misread: bool) -> list[_Found]:
        """What a target's rule says for each row."""
        target = self.targets[index]
        values = target.rule.scales(read, len(facts), target.encoded.count)  # [rows, n]
        if not isinstance(target.rule, Guarded):
            return [_Found(row) for row in values]
        named = [known.names(target.encoded.concept.key) for known in facts]
        found = []
        for row, doubt in zip(values, target.rule.doubts(read, named, misread), strict=True):
            used = bool(doubt) and bool((row > target.rule.fixed).any())
            found.append(_Found(row.clamp(max=target.rule.fixed), doubt) if used else _Found(row))
        return found

    def _emphasis(self, context: torch.Tensor, facts: Sequence[PromptFacts]) -> list[float]:
        """The largest of each row: what its text says, times what was made of all of it afterwards.

        The WebUI's emphasis "Original" multiplies all of a prompt's states so that their mean stays: where much is
        made weak, the rest gets strong. Every context begins with BOS, whose state is the same in all texts.
        """
        bos = self.targets[0].encoded.states[0].float().to(context.device)  # [D]
        length = len(self.targets[0].encoded.states)
        if context.shape[1] % length:
            return [known.emphasis for known in facts]
        first = context[:, ::length].float()  # [rows, contexts, D]
        grown = first.norm(dim=-1) / bos.norm().clamp_min(1e-8)  # [rows, contexts]
        is_bos = torch.cosine_similarity(first, bos, dim=-1).abs() > _SAME_DIRECTION  # [rows, contexts]
        most = torch.where(is_bos & (grown > _NOTICED), grown, 1.0).amax(1)  # [rows]
        return [known.emphasis * more for known, more in zip(facts, most.tolist(), strict=True)]

    def _scale(self, target: Target, found: _Found, emphasis: float) -> torch.Tensor:
        """w of one row and target, float32 [n]."""
        plain = (found.base * target.encoded.concept.weight * self.strength).clamp(max=target.floor)  # [n]
        if emphasis > MOST_EMPHASIS and bool((plain < 0).any()):
            raise OptionError(
                f"the largest emphasis in the prompt is {emphasis:.3g}; {target.encoded.concept.text[:100]!r} can be "
                f"erased up to {MOST_EMPHASIS:g}. Emphasise less, or all of it alike"
            )
        grown = plain * emphasis_factor(emphasis)  # [n]
        return torch.maximum(grown, plain.clamp(max=LOWEST_SCALE))  # emphasis alone leads no further than that

    def doubts(self, row: Hashable) -> tuple[str, ...]:
        """For each target why a fixed scale took the place of a weaker answer for this row, "" where it did not."""
        return tuple(found.doubt for found in self._found.get(row, ())) or ("",) * len(self.targets)

    def scale_batch(self, rows: Sequence[Hashable]) -> tuple[torch.Tensor, ...]:
        """w of these conditional rows, per concept: float32 [rows, n]."""
        picked = [self.scales[row] for row in rows]
        return tuple(torch.stack([scales[index] for scales in picked]) for index in range(len(self.targets)))
