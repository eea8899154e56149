"""The diffusion model as its own judge: a zero-shot classifier (Li et al., 2023), for any checkpoint and concept.

A concept shows in an image if the model predicts noise that was added to the image better under the concept's text
than under the empty one. The paper takes the mean over the image. Here the best part of the image counts: the concept's
text says nothing of what else the image shows, and worsens the prediction there.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch.nn import functional as F

from lib_gie.training.image_maker import ImageMaker, Made, Predictor
from lib_gie.training.noise import squared_errors

from .base import Judge, Verdict

TIMESTEPS = (400, 500, 600, 700, 800)
NOISES = 2
PART = 0.5
"""Sides of the best part, as a share of the image's."""

_SEED = 20_250_423  # the noises are the same for every image


class SelfJudge(Judge):
    """Score: by how much the noise's error is smaller under the concept, relative to the empty text's, in per cent.

    How large it is where the concept shows depends on the model and the concept, so the threshold is found from images
    of prompts that name the concept and of unrelated ones (``calibrate``).
    """

    summary = "the diffusion model as a zero-shot classifier; works for any checkpoint and needs nothing else"
    evaluations = 2 * len(TIMESTEPS) * NOISES
    calibrates = True
    threshold = None

    def __init__(
        self,
        maker: Predictor,
        concept: str,
        timesteps: Sequence[int] = TIMESTEPS,
        noises: int = NOISES,
        part: float = PART,
    ):
        self.maker, self.concept, self.part = maker, concept, part
        self.timesteps = torch.tensor([t for t in timesteps for _ in range(noises)])  # [T]
        self.name = f"self ({noises} noises at timesteps {', '.join(map(str, timesteps))}; best part {part:g})"

    @classmethod
    def build(cls, maker: ImageMaker, concept: str, **settings: Any) -> SelfJudge:
        """Return the judge: it knows every image maker and concept. ``settings``: others of the constructor."""
        return cls(maker, concept, **settings)

    def look(self, made: Made, prompts: Sequence[str]) -> list[Verdict]:
        """Score each image with two UNet evaluations per timestep and noise."""
        return [Verdict(round(score, 3)) for score in self.scores(made.latents, prompts).tolist()]

    def errors(self, latents: torch.Tensor, prompts: Sequence[str]) -> torch.Tensor:
        """Return errors under the concept's text and the empty one: latents [B, 4, h, w] -> float32 [2, B, T, h, w].

        ``prompts``: what each image was made from, so that the model is the one that made it.
        """
        shape = (len(self.timesteps), *latents.shape[1:])
        noises = torch.randn(shape, generator=torch.Generator().manual_seed(_SEED))  # [T, 4, h, w]
        texts = [[self.maker.as_in(text, prompt) for prompt in prompts] for text in (self.concept, "")]
        return torch.stack(
            [squared_errors(self.maker, latents, own, self.timesteps, noises) for own in texts]
        )  # [2, B, T, h, w]

    def scores(self, latents: torch.Tensor, prompts: Sequence[str]) -> torch.Tensor:
        """Return the images' scores: latents [B, 4, h, w] -> float32 [B]."""
        return best_part(self.errors(latents, prompts), self.part)

    def calibrate(self, showing: Sequence[float], absent: Sequence[float]) -> None:
        """Set the threshold from scores of images that should show the concept and of images that should not.

        It lies where it puts most of both on their right sides. Without absent ones it is half of the others' median.
        """
        self.threshold = best_threshold(showing, absent)

    def shows(self, verdict: Verdict, before: Verdict) -> bool:
        """Tell whether the score is above the threshold."""
        return super().shows(verdict, before) and verdict.score != self.threshold


def best_part(errors: torch.Tensor, part: float) -> torch.Tensor:
    """Return scores, float32 [B], from errors under the concept's text and the empty one, float32 [2, B, T, h, w]."""
    with_concept, without = errors  # [B, T, h, w]
    gain = ((without - with_concept) / without.mean((2, 3), keepdim=True)).mean(1, keepdim=True)  # [B, 1, h, w]
    sides = [max(1, round(side * part)) for side in gain.shape[2:]]
    return 100 * F.avg_pool2d(gain, sides, stride=1).flatten(1).amax(1)  # [B]


def best_threshold(above: Sequence[float], below: Sequence[float]) -> float:
    """Return the value that puts the greatest shares of ``above`` and ``below`` on their sides.

    Of several such values it is the middle of the widest gap. Without any ``below`` it is half of the median.
    """
    if not below:
        return sorted(above)[len(above) // 2] / 2
    values = sorted({*above, *below})

    def quality(gap: tuple[float, float]) -> tuple[float, float]:
        right = sum(value >= gap[1] for value in above) / len(above) + sum(value <= gap[0] for value in below) / len(
            below
        )
        return right, gap[1] - gap[0]

    low, high = max(pairwise(values), key=quality, default=(values[0], values[0]))
    return (low + high) / 2
