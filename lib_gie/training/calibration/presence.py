"""Learns to tell how present a concept is in a prompt from the noise that the UNet predicts under the prompt."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import torch

from lib_gie.core.call import LATENT_CHANNELS, noise_of
from lib_gie.core.readings import cells
from lib_gie.core.recorder import Reading, count_cells
from lib_gie.core.scales.calibrated import Discriminant, fit_discriminant, held_out_scores
from lib_gie.core.scales.files import tensors_in, write_file
from lib_gie.core.scales.input_range import InputRange, fit_range
from lib_gie.errors import AdapterError
from lib_gie.json_lines import identity_digest
from lib_gie.training.kept_readings import is_same
from lib_gie.training.prompts.reference import Naming, may_name, naming_prompts

from .counted import BATCH, Counted

POINTS = ((999, 0), (700, 1))
"""Timestep and seed of the noise of each reading. At the first the UNet predicts an image's layout, at the other more
of its contents. Chosen on the demo model's validation prompts, where `evaluate` finds no implied object left."""

SLACK = 1.6
"""Factor by which inputs may be farther off than an adapter's: the neutral prompts know fewer things than prompts do.
Chosen on the demo model's validation prompts; with tiling, whose predictions are others, prompts are beyond it."""

QUANTILE = 0.975
"""A concept begins to be present at this quantile of neutral prompts' scores."""

FULL_AT = 0.25
"""Share of the way from there to naming prompts' mean score, 1, from which it counts as present in full."""

_HIGHEST_START = 0.9  # of the ramp, which must rise to naming prompts' mean score, 1
_LEAST_NAMING = 0.5
"""Share of naming prompts that must score above that quantile. On the demo model it is far more for every thing that it
draws, and far less for words that it does not know."""

_LEAST_NEUTRAL = 40


@dataclass(frozen=True)
class Presence:
    """The means to tell how present a concept is; see ``CalibrationInfo`` for ``ramp`` and ``tells_presence``.

    ``range``: of the inputs that it was found from.
    """

    discriminant: Discriminant
    ramp: tuple[float, float]
    tells_presence: bool
    range: InputRange


def readings_at(size: tuple[int, int]) -> tuple[Reading, ...]:
    """Return the readings at latents of this height and width."""
    return tuple(Reading(noise=seed, size=size, timestep=timestep, predicted=True) for timestep, seed in POINTS)


def read_prompts(counted: Counted, readings: Sequence[Reading], prompts: Sequence[str]) -> torch.Tensor:
    """Return the inputs that a rule with these readings would get for prompts: float32 [B, inputs]."""
    found = []
    for reading in readings:
        assert reading.noise is not None  # as readings_at makes them
        assert reading.size is not None
        noise = noise_of(reading.noise, (1, LATENT_CHANNELS, *reading.size)).expand(len(prompts), -1, -1, -1)
        steps = torch.full((len(prompts),), reading.timestep)
        found.append(cells(counted.predict(noise, steps, prompts)))  # [B, its inputs]
    return torch.cat(found, 1)  # [B, inputs]


class NeutralReadings:
    """The inputs that neutral prompts give on a checkpoint. They serve every concept, so a file keeps them.

    ``identity``: all that they depend on beside prompts and readings. The first prompt is read each time. Where it
    gives other inputs than were kept (another precision, a foreign file), all prompts are read again.
    """

    def __init__(self, prompts: Sequence[str], readings: Sequence[Reading], identity: str, folder: Path | None):
        self.prompts, self._readings = list(prompts), readings
        digest = identity_digest("\n".join([identity, str(readings), *prompts]))
        self._path = None if folder is None else folder / f"neutral-{digest}.safetensors"
        inputs = sum(count_cells(one.size, LATENT_CHANNELS) for one in readings if one.size)
        self._values = self._kept((len(self.prompts), inputs))  # [N, inputs]; NaN: not read yet
        # always the same batches, in which the same prompts give the same bits
        starts = [0, *range(1, len(self.prompts), BATCH), len(self.prompts)]
        self._blocks = [slice(start, end) for start, end in pairwise(starts)]

    def _kept(self, shape: tuple[int, int]) -> torch.Tensor:
        try:
            kept = {} if self._path is None else tensors_in(self._path)
        except AdapterError:  # none yet, or a damaged one: it is made anew
            kept = {}
        values = kept.get("inputs", torch.empty(0))
        return values if (values.shape, values.dtype) == (shape, torch.float32) else torch.full(shape, torch.nan)

    def _is_read(self, block: slice) -> bool:
        return block.start > 0 and bool(torch.isfinite(self._values[block]).all())

    @property
    def evaluations(self) -> int:
        """Return the UNet evaluations that are left to make."""
        missing = [text for block in self._blocks if not self._is_read(block) for text in self.prompts[block]]
        return len(missing) * len(self._readings)

    def read(self, counted: Counted) -> torch.Tensor:
        """Read what is missing, keep it, and return all: float32 [N, inputs]."""
        before = counted.done
        for block in self._blocks:
            if self._is_read(block):
                continue
            found = read_prompts(counted, self._readings, self.prompts[block])  # [block, inputs]
            if block.start == 0:
                if is_same(found, self._values[block]):
                    continue
                self._values.fill_(torch.nan)
            self._values[block] = found
            self._keep()
        counted.spared += len(self.prompts) * len(self._readings) - (counted.done - before)
        return self._values

    def _keep(self) -> None:
        """Write the file. A disk that is full or may not be written to costs the next concept time, and no more."""
        if self._path is not None:
            with suppress(OSError):
                write_file(self._path, {"inputs": self._values}, {})


def find_presence(
    counted: Counted,
    concept: str,
    neutral: NeutralReadings,
    readings: tuple[Reading, ...],
    implied: Sequence[str] = (),
) -> Presence:
    """Find the means to tell how present a concept is, from neutral prompts and from prompts that name it.

    ``implied``: further prompts in which the concept is present without being named, if some are known. Neutral
    prompts that name the concept, or are among these, are left out.
    """
    naming = [*naming_prompts(concept, neutral.prompts), *(Naming(text, -1) for text in implied)]
    absent = neutral.read(counted)  # [N, inputs]
    present = read_prompts(counted, readings, [one.text for one in naming])  # [P, inputs]
    others = [n for n, text in enumerate(neutral.prompts) if not may_name(text, concept) and text not in implied]
    if len(others) < _LEAST_NEUTRAL:  # a word of nearly all texts
        return Presence(fit_discriminant(absent, present), (0.0, 1.0), False, _range(absent, present))
    place = {number: index for index, number in enumerate(others)}
    groups = torch.tensor([place.get(one.of, -1) for one in naming])  # [P]
    ramp, tells_presence = _ramp(*held_out_scores(absent[others], present, groups))
    return Presence(fit_discriminant(absent[others], present), ramp, tells_presence, _range(absent[others], present))


def _range(neutral: torch.Tensor, naming: torch.Tensor) -> InputRange:
    """Return the range of inputs that count as known, from those of both kinds of prompts, float32 [N, inputs] each."""
    fitted, held = (torch.cat([part[first::2] for part in (neutral, naming)]) for first in (0, 1))
    found = fit_range(fitted, held)
    return replace(found, bound=SLACK * found.bound)


def full_at(low: float, share: float = FULL_AT) -> float:
    """Return the score from which a concept is present in full, where it begins to be present at ``low``."""
    return low + share * (1 - low)


def _ramp(absent: torch.Tensor, present: torch.Tensor) -> tuple[tuple[float, float], bool]:
    """Return the ramp, and whether it tells both kinds of prompts apart.

    ``absent``, ``present``: held-out scores of neutral prompts and of those that name the concept, float32 [N], [P'].
    """
    threshold = float(absent.quantile(QUANTILE))
    tells_presence = bool((present > threshold).float().mean() >= _LEAST_NAMING)  # without any it is NaN: False
    low = min(threshold, _HIGHEST_START)
    return (low, full_at(low)), tells_presence
