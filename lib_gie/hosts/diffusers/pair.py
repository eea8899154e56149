"""One prompt without and with erasure, from the same noise."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from PIL import Image

from lib_gie.core.composition import Trace
from lib_gie.core.concepts import Concept
from lib_gie.options import BY_NAME

from .growth_inhibitors import GrowthInhibitors
from .pipeline_call import call_pipeline


@dataclass
class Pair:
    """What ``erase_pair`` made: images per seed, without and with erasure, and what was measured on the way."""

    before: list[Image.Image]
    after: list[Image.Image]
    watched: GrowthInhibitors
    eraser: GrowthInhibitors
    seconds_before: float
    seconds_after: float


@dataclass(frozen=True)
class Sampling:
    """How images are sampled; ``size``: pixels (width, height), None for the model's own."""

    steps: int
    cfg: float
    negative: str = ""
    size: tuple[int, int] | None = None
    seeds: Sequence[int] = field(default_factory=lambda: [0])


def _sample(pipe: Any, prompt: str, sampling: Sampling, progress: Callable[[], None] | None) -> list[Image.Image]:
    def after_step(pipe: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        if progress is not None:
            progress()
        return tensors

    count = len(sampling.seeds)
    images: list[Image.Image] = call_pipeline(
        pipe, [prompt] * count, sampling.seeds, steps=sampling.steps, cfg=sampling.cfg, size=sampling.size,
        negative_prompt=[sampling.negative] * count, callback_on_step_end=after_step,
    )  # fmt: skip
    return images


def erase_pair(
    pipe: Any,
    prompt: str,
    concepts: str | Sequence[Concept],
    sampling: Sampling,
    *,
    progress: Callable[[], None] | None = None,
    keep_composition: bool = False,
    **options: Any,
) -> Pair:
    """Sample without erasure (watching the concept's attention at strength 0) and with it, from the same seeds.

    ``keep_composition``: the second keeps the first one's. ``options``: those of GrowthInhibitors. ``progress`` is
    called after every step of both runs. At strength 0 the images are bit for bit those of the bare pipeline. Both runs
    record attention, so their times compare.
    """
    shares = {name: options.pop(name) for name in ("composition_cross", "composition_self") if name in options}
    strength = options.pop("strength", 1.0)
    given = {name: options.pop(name, None) for name in ("scale", "adapter")}
    trace = Trace() if keep_composition else None
    for name, value in [*shares.items(), ("strength", strength)]:  # the second run's must not wait for the first one
        BY_NAME[name].check(value)
    watched = GrowthInhibitors(pipe, concepts, strength=0.0, record=True, trace=trace, **given, **options)
    before, seconds_before = _timed(pipe, prompt, sampling, progress, watched)
    eraser = GrowthInhibitors(
        pipe, concepts, adapter=watched.rules, strength=strength, record=True, composition=trace, **shares, **options
    )  # nothing is calibrated a second time
    after, seconds_after = _timed(pipe, prompt, sampling, progress, eraser)
    return Pair(before, after, watched, eraser, seconds_before, seconds_after)


def _timed(
    pipe: Any, prompt: str, sampling: Sampling, progress: Callable[[], None] | None, user: GrowthInhibitors
) -> tuple[list[Image.Image], float]:
    with user:
        start = time.perf_counter()
        return _sample(pipe, prompt, sampling, progress), time.perf_counter() - start
