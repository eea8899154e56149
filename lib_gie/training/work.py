"""How much work a training is in images and in evaluations of the UNet: what is usual, and the most that it can be."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch

from lib_gie.core.call import LATENT_CHANNELS

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
"""Images that a label usually takes where the calibration is sure, as those of the adapters in models/ did."""

_USUAL_TRIES_OF_DOUBTFUL = 2, 4  # 1 where the concept does not show, 3 and more where it does

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
        return _range_text(low if low == high else f"{low} to {high}", high, most)

    def time_text(self, seconds: float) -> str:
        """Return how long it takes, such as "usually 3 to 5 minutes, at most 1 hour".

        ``seconds``: of one evaluation of the UNet.
        """
        low, high, most = (amount.evaluations * seconds for amount in (*self.usual, self.most))
        return _range_text(span(low, high), duration(high), duration(most))


def together(works: Sequence[Work], prompts: int) -> Work:
    """Return the work for several concepts. ``prompts``: how many different ones there are: each is read once."""
    spared = len(POINTS) * (sum(work.prompts for work in works) - prompts)

    def summed(amounts: Iterable[Amount]) -> Amount:
        images, evaluations = map(sum, zip(*amounts, strict=True))
        return Amount(images, evaluations - spared)

    low, high = (summed(work.usual[end] for work in works) for end in (0, 1))
    return Work(prompts, (low, high), summed(work.most for work in works))


def _range_text(usual: str, high: str, most: str) -> str:
    """Return a usual range and the most. Where that is the range's end, it is not said twice."""
    return usual if high == most else f"usually {usual}, at most {most}"


def evaluations_of_image(steps: int, judge: type[Judge]) -> int:
    """Return the evaluations of the UNet in which an image is made and judged."""
    return 2 * steps + judge.evaluations


def uncounted_text(judge: type[Judge]) -> str:
    """Return a sentence, after a space, on whose time is not counted; "" where nobody else is waited for."""
    if judge.asks_person:
        return " The time that you take for your answers is added."
    return " The time that the vision model takes for its answers is added." if judge.settings else ""


def seconds_of_evaluation(model: Calibrator, concept: str, batch: int) -> float:
    """Return the seconds of one evaluation of the UNet with erasure, in such a batch, but no larger than a round.

    A slow model is asked for two single rows instead, which takes long enough.
    """

    def timed(count: int) -> float:
        latents = torch.zeros(count, LATENT_CHANNELS, *model.latent_size)  # [B, 4, h, w]
        timesteps = torch.full((count,), len(model.alphas_cumprod) // 2)  # [B]
        begun = time.monotonic()
        model.predict(latents, timesteps, [concept] * count, concept, torch.full((count,), -1.0))
        return (time.monotonic() - begun) / count

    return timed(min(batch, ROUND)) if timed(1) < _QUICK else timed(1)  # the first call of a model takes longer


def work_of(samples: Sequence[Sample], scales: int, judge: type[Judge], steps: int) -> Work:
    """Return the work for one concept before it is calibrated.

    ``scales``: how many are searched. ``judge``: its class. Labels that an earlier training has kept save some of it.
    Nobody knows yet of how many prompts the calibration will be sure: what is usual goes from all to none of those that
    imply the concept.
    """
    implying = len({sample.prompt for sample in samples if sample.kind == "implicit"})
    low, high = _Labels(0, ROUND), _Labels(implying, max(ROUND, implying) + ROUND * _USUAL_ROUNDS_MORE)
    return _work(samples, scales, judge, steps, (low, high), MOST_EVALUATIONS + len(POINTS) * implying)


def work_left(
    samples: Sequence[Sample], scales: int, judge: type[Judge], steps: int, presumption: Presumption | None
) -> Work:
    """Return the work that is left once the concept is calibrated.

    ``presumption``: what the calibration says of the samples; None: every sample is searched.
    """
    searched = [sample for sample in samples if sample.kind != "unrelated"]
    if presumption is None:
        every = _Labels(len(searched), len(searched))
        return _work(samples, scales, judge, steps, (every, every), 0)
    doubtful = len({sample.prompt for sample in searched if not presumption.is_sure(sample)})
    needed = max(ROUND, doubtful)
    usual = _Labels(doubtful, needed), _Labels(doubtful, needed + ROUND * _USUAL_ROUNDS_MORE)
    return _work(samples, scales, judge, steps, usual, 0)


class _Labels(NamedTuple):
    """A number of labels, the ``total`` and those of ``doubtful`` prompts."""

    doubtful: int
    total: int

    def images(self, searched: int, most_tries: int, end: int) -> int:
        """Return their images at the lower (0) or upper (1) ``end`` of what is usual.

        ``searched``: how many samples there are. ``most_tries``: the most images of one.
        """
        sure, doubtful = (min(tries[end], most_tries) for tries in (USUAL_TRIES, _USUAL_TRIES_OF_DOUBTFUL))
        labels = min(self.total, searched)
        return min(self.doubtful, labels) * doubtful + max(0, labels - self.doubtful) * sure


def _work(
    samples: Sequence[Sample],
    scales: int,
    judge: type[Judge],
    steps: int,
    usual: tuple[_Labels, _Labels],
    before: int,
) -> Work:
    """Return the work. ``before``: evaluations that come before the first image."""
    searched = sum(sample.kind != "unrelated" for sample in samples)
    prompts = len({sample.prompt for sample in samples})
    scales_too = scales + 1  # the calibrated one may come to them
    tries = scales_too if judge.whole_rows else max(most_tries(scales), most_tries(scales_too, first=1))
    absent = min(CALIBRATION, len(samples) - searched) if judge.calibrates else 0
    each, once = evaluations_of_image(steps, judge), len(POINTS) * prompts + before

    def amount(images: int) -> Amount:
        return Amount(images + absent, (images + absent) * each + once)

    def usual_images(end: int) -> int:
        labels = usual[end]
        return min(labels.total, searched) * tries if judge.whole_rows else labels.images(searched, tries, end)

    return Work(prompts, (amount(usual_images(0)), amount(usual_images(1))), amount(searched * tries))
