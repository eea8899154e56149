"""What labelling needs from whatever makes the images: a diffusers pipeline, or the WebUI."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

from lib_gie.core.recorder import Reading


@dataclass
class Made:
    """A batch of images with what they were made from.

    ``images``: float32 [B, 3, H, W], 0 to 1. ``latents``: float32 [B, 4, h, w], scaled as the UNet takes them.
    """

    images: torch.Tensor
    latents: torch.Tensor


class Host(Protocol):
    """Makes images and looks at them with the diffusion model that made them."""

    base: str
    """Model family, as adapters name it."""

    latent_size: tuple[int, int]
    """Height and width of its latents."""

    conditions: dict[str, float]
    """"clip_skip" and "cfg" of its images, by those names."""

    description: str
    """What else the images depend on (checkpoint, sampler, steps, ...); labels of another one are not reused."""

    def tokens(self, concept: str) -> list[str]:
        """The concept's own tokens."""
        ...

    def make(self, prompts: Sequence[str], seeds: Sequence[int], concept: str, scales: torch.Tensor) -> Made:
        """One image per prompt, seed and scale w (float32 [B])."""
        ...

    def read(self, prompts: Sequence[str], concepts: Sequence[str], reading: Reading) -> list[torch.Tensor]:
        """What adapters with this reading would see, for each concept float32 [B, inputs, n].

        Only for a reading that depends on the prompt alone.
        """
        ...

    def as_in(self, text: str, prompt: str) -> str:
        """The text with what makes the model as it is for images of a prompt: networks that the prompt names."""
        ...

    def noise_errors(
        self, latents: torch.Tensor, texts: Sequence[str], timesteps: torch.Tensor, noises: torch.Tensor
    ) -> torch.Tensor:
        """Squared errors of the predicted noise, means over channels, float32 [B, T, h, w].

        ``latents``: [B, 4, h, w], under one text each, see ``as_in``.
        ``timesteps``: int64 [T]; ``noises``: float32 [T, 4, h, w], the same for all images.
        """
        ...
