"""Calibrates the demo model's concepts for a comparison."""

from __future__ import annotations

import functools
from typing import Any

from lib_gie.core.scales.calibrated import Calibration
from lib_gie.demo.sampling_settings import CFG, SIZE, STEPS
from lib_gie.demo.world.concepts import CONCEPTS
from lib_gie.demo.world.splits import load_split
from lib_gie.hosts.diffusers.image_maker import PipelineImageMaker
from lib_gie.hosts.diffusers.loading import DEMO_BASE
from lib_gie.training.calibration import calibrate

_IMPLIED = ("implied", "style implied")


@functools.lru_cache(maxsize=4)
def calibrations(pipe: Any, given_implied: bool) -> dict[str, Calibration]:
    """Calibrate every concept on a pipeline, each as if it were the first: nothing is kept from one to the next.

    ``given_implied``: with the implied prompts of the train split; without them no prompt of the splits is used.
    """
    maker = PipelineImageMaker(pipe, DEMO_BASE, name=DEMO_BASE, steps=STEPS, cfg=CFG, size=(SIZE, SIZE))
    implied = [prompt for prompt in load_split("train")[0] if prompt.kind in _IMPLIED] if given_implied else []
    return {
        concept: calibrate(maker, concept, "in memory", implied=[p.text for p in implied if p.concept == concept])
        for concept in CONCEPTS
    }
