"""Calibrates the demo model's concepts for a comparison."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from lib_gie.core.scales.calibrated import Calibration
from lib_gie.demo.sampling_settings import CFG, FAMILY, SIZE, STEPS
from lib_gie.demo.world.concepts import CONCEPTS
from lib_gie.demo.world.splits import load_split
from lib_gie.hosts.diffusers.image_maker import PipelineImageMaker
from lib_gie.training.calibration import calibrate
from lib_gie.training.calibration.presence import full_at

_IMPLIED = ("implied", "style implied")


class Calibrations(Mapping[str, Calibration]):
    """The calibration of every concept on a pipeline, made when it is first asked for.

    Each is made as if it were the first: nothing is kept from one to the next. ``given_implied``: with the implied
    prompts of the train split; without them no prompt of the splits is used.
    """

    def __init__(self, pipe: Any, given_implied: bool):
        self._maker = PipelineImageMaker(pipe, FAMILY, name=FAMILY, steps=STEPS, cfg=CFG, size=(SIZE, SIZE))
        self._given = [prompt for prompt in load_split("train")[0] if prompt.kind in _IMPLIED] if given_implied else []
        self._made: dict[str, Calibration] = {}

    def __getitem__(self, concept: str) -> Calibration:
        if concept not in CONCEPTS:
            raise KeyError(concept)
        if concept not in self._made:
            implied = [prompt.text for prompt in self._given if prompt.concept == concept]
            self._made[concept] = calibrate(self._maker, concept, "in memory", implied=implied)
        return self._made[concept]

    def __iter__(self) -> Iterator[str]:
        return iter(CONCEPTS)

    def __len__(self) -> int:
        return len(CONCEPTS)


class WithRamps(Mapping[str, Calibration]):
    """Calibrations whose concepts count as present in full from another share of the way on: see ``FULL_AT``."""

    def __init__(self, made: Mapping[str, Calibration], share: float):
        self._made, self._share = made, share

    def __getitem__(self, concept: str) -> Calibration:
        found = self._made[concept]
        low, _ = found.info.ramp
        return replace(found, info=replace(found.info, ramp=(low, full_at(low, self._share))))

    def __iter__(self) -> Iterator[str]:
        return iter(self._made)

    def __len__(self) -> int:
        return len(self._made)


@functools.lru_cache(maxsize=4)
def calibrations(pipe: Any, given_implied: bool) -> Calibrations:
    """Return the calibrations of a pipeline, the same object for the same arguments."""
    return Calibrations(pipe, given_implied)
