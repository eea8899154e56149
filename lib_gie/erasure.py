"""One generation's state: which concepts, how strongly, for which rows of which UNet calls."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

import torch

from .checks import number_from
from .composition import Composition, Trace
from .encoding import EncodedConcept
from .errors import ErasureError, OptionError
from .rows import Identities, Name, RowLedger
from .scale import ScaleRule
from .statistics import AttentionRecorder

CONCEPT_PASSES = ("fused", "separate")
MAX_STRENGTH = 3.0


@dataclass(frozen=True, eq=False)
class Target:
    """A concept to erase and the rule that gives its scale."""

    encoded: EncodedConcept
    rule: ScaleRule


def _identity(context: torch.Tensor) -> tuple | None:
    """Equal for the same memory that nothing has written to in between; None where torch does not keep count."""
    if context.is_inference():
        return None
    return context.data_ptr(), context.shape, context.stride(), context._version


class _Seen:
    """A context [rows, L, D] that scales were found under."""

    def __init__(self, context: torch.Tensor):
        # kept alive, so that nothing else can come to lie in its memory
        self._context, self._identity, self._values = context, _identity(context), context.detach().clone()

    def is_same(self, context: torch.Tensor) -> bool:
        """Whether it says the same. Hosts that pass the same tensor at every step need not wait for the device."""
        if self._identity is not None and _identity(context) == self._identity:
            return True
        return self._values.shape == context.shape and torch.equal(self._values, context)


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
        self.prompts: dict[tuple[Hashable, ...], _Seen] = {}
        self.ledger = RowLedger()
        self._steps = 0
        self._progress = 0.0

    @property
    def injects(self) -> bool:
        """Whether the sampling is between start and end."""
        return self.start <= self._progress and (self._progress < self.end or self.end == 1.0)

    @property
    def has_begun(self) -> bool:
        """Whether the sampling has come as far as start."""
        return self.start <= self._progress

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

    def go_on_from(self, other: Erasure) -> None:
        """Take over what another erasure of the same concepts has resolved."""
        self.scales, self.prompts = dict(other.scales), dict(other.prompts)

    def unresolved(self, rows: Sequence[Hashable], context: torch.Tensor) -> list[int]:
        """Numbers of the targets whose scales are to be found for these conditional rows, ``context`` [rows, L, D].

        All of them where the rows are new. Later those whose rule reads the prompt alone, if that has changed (prompt
        editing, another prompt for Hires. fix): the paper finds w once, at t = T, and would miss a concept that a
        prompt brings in on the way.
        """
        if not all(row in self.scales for row in rows):
            return list(range(len(self.targets)))
        reading = [target.rule.reading for target in self.targets]
        if self.ledger.is_tiled and self._steps == 1:  # the concept may be in any of the image's tiles
            return [index for index, read in enumerate(reading) if read is not None]
        changing = [index for index, read in enumerate(reading) if read is not None and read.reads_prompt]
        if not changing:
            return []
        seen = self.prompts.get(tuple(rows))
        return [] if seen is not None and seen.is_same(context) else changing

    def set_scales(
        self, rows: Sequence[Hashable], context: torch.Tensor, inputs: Mapping[int, torch.Tensor | None]
    ) -> None:
        """Find w for these rows under ``context`` [rows, L, D]. It is never weaker than it was for an earlier prompt.

        ``inputs``: for the number of each target to be resolved what its rule reads, float32 [rows, inputs, n] or None.
        """
        found = {}
        for index, read in inputs.items():
            target = self.targets[index]
            values = target.rule.scales(read, len(rows), target.encoded.count)
            found[index] = (values * target.encoded.concept.weight * self.strength).clamp(max=0)  # [rows, n]
        for number, row in enumerate(rows):
            old = self.scales.get(row)
            values = []
            for index in range(len(self.targets)):
                new = found[index][number] if index in found else old[index]
                values.append(new if old is None else torch.minimum(new, old[index]))
            self.scales[row] = tuple(values)
        if any(self.targets[index].rule.reading is not None for index in inputs):
            self.prompts[tuple(rows)] = _Seen(context)

    def scale_batch(self, rows: Sequence[Hashable]) -> tuple[torch.Tensor, ...]:
        """w of these conditional rows, per concept: float32 [rows, n]."""
        picked = [self.scales[row] for row in rows]
        return tuple(torch.stack([scales[index] for scales in picked]) for index in range(len(self.targets)))
