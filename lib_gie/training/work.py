"""How much work a training is: its bounds in images and in evaluations of the UNet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .calibration.counted import MOST_EVALUATIONS
from .calibration.presence import POINTS
from .judges import Judge
from .labels import CALIBRATION, Sample
from .presumption import Presumption
from .rounds import ROUND
from .search import most_tries


@dataclass(frozen=True)
class Work:
    """The bounds of a training's work.

    ``prompts``: those that are read. ``least``: the images of the rounds after which a training ends at the earliest,
    if the concept shows in none, and those that the judge learns from. ``images``, ``evaluations``: the most that it
    can take; evaluations are of the UNet, those of the judge and the calibration included. ``least_evaluations``: those
    of the ``least`` images.
    """

    prompts: int
    least: int
    images: int
    least_evaluations: int
    evaluations: int


def evaluations_of_image(steps: int, judge: type[Judge]) -> int:
    """Return the evaluations of the UNet in which an image is made and judged."""
    return 2 * steps + judge.evaluations


def uncounted_text(judge: type[Judge]) -> str:
    """Return a sentence, after a space, on whose time is not counted; "" where nobody else is waited for."""
    if judge.asks_person:
        return " The time that you take for your answers is added."
    return " The time that the vision model takes for its answers is added." if judge.settings else ""


def work_of(samples: Sequence[Sample], scales: int, judge: type[Judge], steps: int) -> Work:
    """Return the bounds of the work for one concept before it is calibrated.

    ``scales``: how many are searched. ``judge``: its class. Labels that an earlier training has kept save some of it.
    """
    readings = len(POINTS) * len({sample.prompt for sample in samples if sample.kind == "implicit"})
    return _bounds(samples, scales, judge, steps, ROUND, MOST_EVALUATIONS + readings)


def work_left(
    samples: Sequence[Sample], scales: int, judge: type[Judge], steps: int, presumption: Presumption | None
) -> Work:
    """Return the bounds of the work that is left once the concept is calibrated.

    ``presumption``: what the calibration says of the samples; None: every sample is searched.
    """
    searched = [sample for sample in samples if sample.kind != "unrelated"]
    doubtful = {sample.prompt for sample in searched if presumption is None or not presumption.is_sure(sample)}
    least = len(searched) if presumption is None else max(ROUND, len(doubtful))
    return _bounds(samples, scales, judge, steps, least, 0)


def _bounds(samples: Sequence[Sample], scales: int, judge: type[Judge], steps: int, least: int, before: int) -> Work:
    searched = sum(sample.kind != "unrelated" for sample in samples)
    prompts = len({sample.prompt for sample in samples})
    scales_too = scales + 1  # the calibrated one may come to them
    tries = scales_too if judge.whole_rows else max(most_tries(scales), most_tries(scales_too, first=1))
    absent = min(CALIBRATION, len(samples) - searched) if judge.calibrates else 0
    once_each = scales_too if judge.whole_rows else 1  # images at least of a sample
    images, fewest = searched * tries + absent, min(searched, least) * once_each + absent
    each, once = evaluations_of_image(steps, judge), len(POINTS) * prompts + before
    return Work(prompts, fewest, images, fewest * each + once, images * each + once)
