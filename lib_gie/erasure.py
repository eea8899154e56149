"""One generation's state: which concepts, how strongly, for which rows of which UNet calls."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from .checks import number_from
from .composition import Composition, Trace
from .encoding import EncodedConcept
from .errors import ErasureError, OptionError
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
        self._announced: tuple[Hashable | None, ...] | None = None
        self._seen = 0
        self._calls = 0
        self._steps = 0
        self._progress = 0.0
        self._tiled: tuple[Hashable | None, ...] | None = None  # the rows of a call that is made in tiles
        self._tile_seen = 0  # of them, in the tile that is being made

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

    def begin(self, rows: Sequence[Hashable | None], progress: float) -> None:
        """Announce the rows of the coming UNet calls, in their order, before each denoising step.

        ``rows``: for each row, conditional ones: a name that stays the same over the steps (usually the image's
        number); unconditional ones: None. The step may be split into several UNet calls; unconditional rows
        may be left out. ``progress``: the fraction of the sampling that is done, 0 at the first step.

        Raises ErasureError where conditional rows of the step before never reached the UNet.
        """
        self._check_all_seen()
        if not any(row is not None for row in rows):
            self.invalidate()
            raise ErasureError(f"none of the {len(rows)} announced rows is conditional; nothing could be erased")
        self._announced = tuple(rows)
        self._seen = 0
        self._steps += 1
        self._tiled = None
        self._progress = progress
        if self.recorder is not None:
            self.recorder.begin_step()

    def invalidate(self) -> None:
        """Forget what was announced: the next UNet call raises unless ``begin`` comes first."""
        self._announced = self._tiled = None

    @contextmanager
    def tiles(self, batch: int) -> Iterator[None]:
        """Within it the next ``batch`` announced rows are made tile by tile, each tile with all of them.

        A UNet call has the rows of one tile, or of several tiles one after the other, or a part of a tile's.
        Raises ErasureError at the end where there was no tile, or where the last one lacks rows.
        """
        self._tiled, self._tile_seen, before = self._next_rows(batch), 0, self._calls
        yield
        tiled, self._tiled = self._tiled, None
        if tiled is not None and (self._tile_seen or self._calls == before):
            self.invalidate()
            raise ErasureError(
                f"of the tiles of {batch} rows the last one had {self._tile_seen} rows, or there was none, so parts of "
                f"the image may not be erased"
            )

    def bring_forward(self, rows: Sequence[Hashable | None]) -> None:
        """Say which of the announced rows the coming UNet call has, in their order.

        For hosts that find an order of their own only then. Raises ErasureError where these rows are not left.
        """
        if self._announced is None:
            return  # ``take`` says so
        left = list(self._announced[self._seen :])
        for row in rows:
            if row not in left:
                self.invalidate()
                raise ErasureError(
                    f"the UNet was called with {len(rows)} rows of which not all are left of this step's; the "
                    f"conditional rows are unknown, so nothing can be erased safely"
                )
            left.remove(row)
        self._announced = (*self._announced[: self._seen], *rows, *left)

    def take(self, batch: int) -> tuple[Hashable | None, ...]:
        """The rows of a UNet call with so many rows. Raises ErasureError where they do not fit what was announced."""
        rows = self._next_rows(batch) if self._tiled is None else self._next_tiles(batch)
        self._calls += 1
        return rows

    def _next_tiles(self, batch: int) -> tuple[Hashable | None, ...]:
        """The rows of whole tiles, or of a part of one."""
        tile, seen = self._tiled, self._tile_seen
        if not seen and batch % len(tile) == 0:
            return tile * (batch // len(tile))
        if seen + batch > len(tile):
            self.invalidate()
            raise ErasureError(
                f"the UNet was called with {batch} rows of tiles that have {len(tile)} rows, of which {seen} were "
                f"made; the conditional rows are unknown, so nothing can be erased safely"
            )
        self._tile_seen = (seen + batch) % len(tile)
        return tile[seen : seen + batch]

    def _next_rows(self, batch: int) -> tuple[Hashable | None, ...]:
        if self._announced is None:
            raise ErasureError(
                f"the UNet was called with {batch} rows that no sampler step announced, so it is unknown which are "
                f"conditional; growth inhibitors cannot be used with what made this call"
            )
        left = len(self._announced) - self._seen
        if batch > left:
            self.invalidate()
            raise ErasureError(
                f"the UNet was called with {batch} rows where {left} of {self._number_announced(left)} were left; "
                f"the conditional rows are unknown, so nothing can be erased safely"
            )
        rows = self._announced[self._seen : self._seen + batch]
        self._seen += batch
        return rows

    def _number_announced(self, left: int) -> str:
        return f"{self._seen + left} announced ones"

    def _check_all_seen(self) -> None:
        if self._announced is None:
            return
        missed = [row for row in self._announced[self._seen :] if row is not None]
        if missed:
            self.invalidate()
            raise ErasureError(
                f"{len(missed)} conditional rows of a step never reached the UNet's attention layers; the image may "
                f"not be erased. Another extension or a custom UNet may stand in between: switch it off"
            )

    def finish(self) -> None:
        """Check, after the last step, that every announced conditional row was seen. Raises ErasureError."""
        self._check_all_seen()
        if self._calls == 0:
            raise ErasureError("the UNet was never called, so nothing was erased; a custom UNet may have been used")

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
        if self._tiled is not None and self._steps == 1:  # the concept may be in any of the image's tiles
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
