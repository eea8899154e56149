"""How present a concept is in a prompt, told from the noise that the UNet predicts: what it takes to learn that."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from lib_gie.core.call import LATENT_CHANNELS, noise_of
from lib_gie.core.readings import cells
from lib_gie.core.recorder import Reading, count_cells
from lib_gie.core.scales.calibrated import Discriminant, fit_discriminant, held_out_scores
from lib_gie.core.scales.files import tensors_in, write_file
from lib_gie.errors import AdapterError
from lib_gie.json_lines import identity_digest
from lib_gie.named import times_named
from lib_gie.training.prompts.reference import Naming, naming_prompts

from .counted import BATCH, Counted

POINTS = ((999, 0), (700, 1))
"""Timestep and seed of the noise of each reading. At the first the UNet predicts an image's layout, at the other more
of what is in it. Both together told every implied prompt of the demo model's validation split from unrelated ones."""

QUANTILE = 0.975
"""A concept begins to be present at this quantile of neutral prompts' scores."""


@dataclass(frozen=True)
class Presence:
    """What tells how present a concept is; see ``CalibrationInfo`` for the ramp."""

    readings: tuple[Reading, ...]
    discriminant: Discriminant
    ramp: tuple[float, float]


def readings_at(size: tuple[int, int]) -> tuple[Reading, ...]:
    """Return the readings at latents of this height and width."""
    return tuple(Reading(noise=seed, size=size, timestep=timestep, predicted=True) for timestep, seed in POINTS)


def read_prompts(counted: Counted, readings: Sequence[Reading], prompts: Sequence[str]) -> torch.Tensor:
    """Return what a rule with these readings would see of prompts: float32 [B, inputs].

    Raises AdapterError where that is not finite.
    """
    found = []
    for reading in readings:
        assert reading.noise is not None  # as readings_at makes them
        assert reading.size is not None
        noise = noise_of(reading.noise, (1, LATENT_CHANNELS, *reading.size)).expand(len(prompts), -1, -1, -1)
        steps = torch.full((len(prompts),), reading.timestep)
        found.append(cells(counted.predict(noise, steps, prompts)))  # [B, its inputs]
    values = torch.cat(found, 1)  # [B, inputs]
    if not torch.isfinite(values).all():
        raise AdapterError(
            "the model predicts noise that is no finite number, so it cannot be told how present a concept is; run it "
            "in full precision, or take a fixed scale"
        )
    return values


class NeutralReadings:
    """What was read of neutral prompts on a checkpoint. It is the same for every concept, so it is kept in a file.

    ``identity``: all that it depends on beside prompts and readings.
    """

    def __init__(self, prompts: Sequence[str], readings: Sequence[Reading], identity: str, folder: Path | None):
        self.prompts, self._readings = list(prompts), readings
        digest = identity_digest("\n".join([identity, str(readings), *prompts]))
        self._path = None if folder is None else folder / f"neutral-{digest}.safetensors"
        inputs = sum(count_cells(one.size, LATENT_CHANNELS) for one in readings if one.size)
        self._values = self._kept((len(self.prompts), inputs))  # [N, inputs]; NaN: not read yet

    def _kept(self, shape: tuple[int, int]) -> torch.Tensor:
        try:
            kept = {} if self._path is None else tensors_in(self._path)
        except AdapterError:  # none yet, or a damaged one: it is made anew
            kept = {}
        values = kept.get("inputs", torch.empty(0))
        return values if (values.shape, values.dtype) == (shape, torch.float32) else torch.full(shape, torch.nan)

    @property
    def missing(self) -> list[int]:
        """The numbers of the prompts that are not read yet."""
        return torch.nonzero(~torch.isfinite(self._values).all(1)).flatten().tolist()

    @property
    def evaluations(self) -> int:
        """The UNet evaluations that are left to make."""
        return len(self.missing) * len(self._readings)

    def read(self, counted: Counted) -> torch.Tensor:
        """Read what is missing, keep it, and return all: float32 [N, inputs]."""
        while missing := self.missing[:BATCH]:
            self._values[missing] = read_prompts(counted, self._readings, [self.prompts[n] for n in missing])
            if self._path is not None:
                write_file(self._path, {"inputs": self._values}, {})
        return self._values


def find_presence(
    counted: Counted,
    concept: str,
    neutral: NeutralReadings,
    readings: tuple[Reading, ...],
    implied: Sequence[str] = (),
) -> Presence:
    """Find what tells how present a concept is, from neutral prompts and such prompts that name it.

    ``implied``: further prompts in which the concept is present without being named, if some are known.
    """
    naming = [*naming_prompts(concept, neutral.prompts), *(Naming(text, -1) for text in implied)]
    absent = neutral.read(counted)  # [N, inputs]
    present = read_prompts(counted, readings, [one.text for one in naming])  # [P, inputs]
    kept = [number for number, text in enumerate(neutral.prompts) if not times_named(text, concept)]
    place = {number: index for index, number in enumerate(kept)}
    groups = torch.tensor([place.get(one.of, -1) for one in naming])  # [P]
    low = float(held_out_scores(absent[kept], present, groups).quantile(QUANTILE))
    low = min(low, 0.9)  # a model that does not know the concept's words tells nothing: the ramp must still rise
    return Presence(readings, fit_discriminant(absent[kept], present), (low, (low + 1) / 2))
