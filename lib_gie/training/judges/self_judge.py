"""The diffusion model as its own judge: a zero-shot classifier (Li et al., 2023), for any checkpoint and concept.

A concept shows in an image if the model predicts noise that was added to the image better under the concept's text
than under the empty one.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ..host import Host, Made
from .base import Verdict

TIMESTEPS = (150, 250, 350, 450, 550, 650)
NOISES = 2
THRESHOLD = 0.0
_SEED = 20_250_423  # of the noises, the same for every image


class SelfJudge:
    """Score: by how much the noise's error is smaller under the concept, relative to the empty text's, in per cent."""

    def __init__(
        self,
        host: Host,
        concept: str,
        timesteps: Sequence[int] = TIMESTEPS,
        noises: int = NOISES,
        threshold: float = THRESHOLD,
    ):
        self.host, self.concept, self.threshold = host, concept, threshold
        self.timesteps = torch.tensor([t for t in timesteps for _ in range(noises)])  # [T]
        self.name = f"self ({noises} noises at timesteps {', '.join(map(str, timesteps))}; threshold {threshold:g})"

    def look(self, made: Made, prompts: Sequence[str]) -> list[Verdict]:
        """Two UNet evaluations per image, timestep and noise."""
        return [Verdict(score) for score in self.scores(made.latents).tolist()]

    def errors(self, latents: torch.Tensor) -> torch.Tensor:
        """Errors under the concept's text and under the empty one: latents [B, 4, h, w] -> float32 [2, B, T]."""
        shape = (len(self.timesteps), *latents.shape[1:])
        noises = torch.randn(shape, generator=torch.Generator().manual_seed(_SEED))  # [T, 4, h, w]
        texts = (self.concept, "")
        count = len(latents)
        return torch.stack(
            [self.host.noise_errors(latents, [text] * count, self.timesteps, noises) for text in texts]
        )  # [2, B, T]

    def scores(self, latents: torch.Tensor) -> torch.Tensor:
        """Float32 [B]."""
        with_concept, without = self.errors(latents)  # [B, T]
        return 100 * ((without - with_concept) / without).mean(1)  # [B]

    def shows(self, verdict: Verdict, before: Verdict) -> bool:
        """Whether the score is above the threshold."""
        return verdict.score > self.threshold


def build(host: Host, concept: str, **settings) -> SelfJudge:
    """For every host and concept."""
    return SelfJudge(host, concept, **settings)
