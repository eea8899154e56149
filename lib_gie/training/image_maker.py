"""The protocol that labelling needs of what makes its images: a diffusers pipeline, or the WebUI."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

from lib_gie.core.recorder import Reading


@dataclass
class Made:
    """A batch of images with the latents that they were decoded from.

    ``images``: float32 [B, 3, H, W], 0 to 1. ``latents``: float32 [B, 4, h, w], scaled as the UNet takes them.
    """

    images: torch.Tensor
    latents: torch.Tensor


class Predictor(Protocol):
    """A diffusion model that can be asked what it predicts."""

    @property
    def alphas_cumprod(self) -> torch.Tensor:
        """Return the share of signal at every timestep, float32 [timesteps], on the CPU."""
        ...

    @property
    def predicts_velocity(self) -> bool:
        """Tell whether the UNet's output is the velocity (SD 2.x), and not the noise."""
        ...

    def as_in(self, text: str, prompt: str) -> str:
        """Return the text with the networks that the prompt names, so that the model is the one of its images."""
        ...

    def predict(
        self,
        latents: torch.Tensor,
        timesteps: torch.Tensor,
        texts: Sequence[str],
        concept: str = "",
        scales: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Return the UNet's output for rows that are all conditional, float32 [B, 4, h, w], on the CPU.

        ``latents``: noisy ones, float32 [B, 4, h, w]. ``timesteps``: int64 [B]. ``texts``: of each row (see ``as_in``).
        ``concept``: is erased at ``scales``, w of each row, float32 [B], if these are given.
        """
        ...


class Calibrator(Predictor, Protocol):
    """A diffusion model that concepts can be calibrated on: it need not make images."""

    base: str
    """Model family, as adapters name it."""

    description: str
    """All else that the images depend on (checkpoint, sampler, steps, ...). Labels of another one are not reused."""

    @property
    def latent_size(self) -> tuple[int, int]:
        """Return height and width of its latents."""
        ...

    @property
    def conditions(self) -> dict[str, float]:
        """Return "clip_skip" and "cfg" of its images, by those names."""
        ...

    def tokens(self, concept: str) -> list[str]:
        """Return the concept's own tokens."""
        ...


class ImageMaker(Calibrator, Protocol):
    """Makes images and looks at them with the diffusion model that made them."""

    def make(self, prompts: Sequence[str], seeds: Sequence[int], concept: str, scales: torch.Tensor) -> Made:
        """Return one image per prompt, seed and scale w (float32 [B])."""
        ...

    def read(self, prompts: Sequence[str], concepts: Sequence[str], readings: Sequence[Reading]) -> list[torch.Tensor]:
        """Return the inputs that adapters with these readings would get, for each concept float32 [B, inputs, n].

        Each reading must depend on the prompt alone. The first is of the attention.
        """
        ...
