"""How much work a training is in images and in evaluations of the UNet: what is usual, and the most that it can be."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch

from .calibration.counted import MOST_EVALUATIONS
from .calibration.presence import POINTS
from .durations import duration, span
from .image_maker import Calibrator
from .judges import Judge
from .labels import CALIBRATION, Sample
from .presumption import Presumption
from .rounds import ROUND
from .search import most_tries

USUAL_TRIES = 2, 3
"""Images that a label usually takes once the concept is calibrated, as those of the adapters in models/ did."""

_USUAL_TRIES_OF_ALL = 2, 4  # without a calibration: 1 where the concept does not show, 3 and more where it does

_USUAL_ROUNDS_MORE = 1  # than those that a training needs, see ``Rounds``

_QUICK = 1.0  # seconds of an evaluation below which a whole batch is timed


class Amount(NamedTuple):
    """A number of images, and the evaluations of the UNet that they and all else of a training take."""

    images: int
    evaluations: int


@dataclass(frozen=True)
class Work:
    """A training's work: the ``prompts`` that are read, the least and the greatest usual amount, the most there can be.

    Evaluations are of the UNet, those of the judge and the calibration included.
    """

    prompts: int
    usual: tuple[Amount, Amount]
    most: Amount

    @property
    def images_text(self) -> str:
        """How many images are made, such as "usually 48 to 144, at most 1,416"."""
        low, high, most = (f"{amount.images:,}" for amount in (*self.usual, self.most))
        return _usually(low if low == high else f"{low} to {high}", most)

    def time_text(self, seconds: float) -> str:
        """Return how long it takes, such as "usually 3 to 5 minutes, at most 1 hour".

        ``seconds``: of one evaluation of the UNet.
        """
        low, high, most = (amount.evaluations * seconds for amount in (*self.usual, self.most))
        return _usually(span(low, high), duration(most))


def _usually(usual: str, most: str) -> str:
    return most if usual == most else f"usually {usual}, at most {most}"


def evaluations_of_image(steps: int, judge: type[Judge]) -> int:
    """Return the evaluations of the UNet in which an image is made and judged."""
    return 2 * steps + judge.evaluations


def uncounted_text(judge: type[Judge]) -> str:
    """Return a sentence, after a space, on whose time is not counted; "" where nobody else is waited for."""
    if judge.asks_person:
        return " The time that you take for your answers is added."
    return " The time that the vision model takes for its answers is added." if judge.settings else ""


def seconds_of_evaluation(model: Calibrator, concept: str, rows: int) -> float:
    """Return the seconds of one evaluation of the UNet with erasure in a batch of ``rows``.

    A slow model is asked for two single rows: a whole batch would take minutes of those that it is to tell.
    """

    def timed(count: int) -> float:
        latents = torch.zeros(count, 4, *model.latent_size)  # [B, 4, h, w]
        timesteps = torch.full((count,), len(model.alphas_cumprod) // 2)  # [B]
        begun = time.monotonic()
        model.predict(latents, timesteps, [concept] * count, concept, torch.full((count,), -1.0))
        return (time.monotonic() - begun) / count

    return timed(rows) if timed(1) < _QUICK else timed(1)  # the first call of a model takes longer


def work_of(samples: Sequence[Sample], scales: int, judge: type[Judge], steps: int) -> Work:
    """Return the work for one concept before it is calibrated.

    ``scales``: how many are searched. ``judge``: its class. Labels that an earlier training has kept save some of it.
    """
    readings = len(POINTS) * len({sample.prompt for sample in samples if sample.kind == "implicit"})
    labels = ROUND, ROUND * (1 + _USUAL_ROUNDS_MORE)
    return _work(samples, scales, judge, steps, labels, USUAL_TRIES, MOST_EVALUATIONS + readings)


def work_left(
    samples: Sequence[Sample], scales: int, judge: type[Judge], steps: int, presumption: Presumption | None
) -> Work:
    """Return the work that is left once the concept is calibrated.

    ``presumption``: what the calibration says of the samples; None: every sample is searched.
    """
    searched = [sample for sample in samples if sample.kind != "unrelated"]
    if presumption is None:
        return _work(samples, scales, judge, steps, (len(searched),) * 2, _USUAL_TRIES_OF_ALL, 0)
    needed = max(ROUND, len({sample.prompt for sample in searched if not presumption.is_sure(sample)}))
    labels = needed, needed + ROUND * _USUAL_ROUNDS_MORE
    return _work(samples, scales, judge, steps, labels, USUAL_TRIES, 0)


def _work(
    samples: Sequence[Sample],
    scales: int,
    judge: type[Judge],
    steps: int,
    usual_labels: tuple[int, int],
    usual_tries: tuple[int, int],
    before: int,
) -> Work:
    """Return the work. ``before``: evaluations that come before the first image."""
    searched = sum(sample.kind != "unrelated" for sample in samples)
    prompts = len({sample.prompt for sample in samples})
    scales_too = scales + 1  # the calibrated one may come to them
    tries = scales_too if judge.whole_rows else max(most_tries(scales), most_tries(scales_too, first=1))
    absent = min(CALIBRATION, len(samples) - searched) if judge.calibrates else 0
    each, once = evaluations_of_image(steps, judge), len(POINTS) * prompts + before

    def amount(labels: int, images_each: int) -> Amount:
        images = min(labels, searched) * (tries if judge.whole_rows else min(images_each, tries)) + absent
        return Amount(images, images * each + once)

    low, high = (amount(*usual) for usual in zip(usual_labels, usual_tries, strict=True))
    return Work(prompts, (low, high), amount(searched, tries))
