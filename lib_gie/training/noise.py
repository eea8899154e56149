"""The errors of a diffusion model's prediction of noise on images, from which the judge ``self`` gets its scores."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

Predict = Callable[[torch.Tensor, torch.Tensor, Sequence[int]], torch.Tensor]
"""Noisy latents float32 [R, 4, h, w], timesteps int64 [R] and each row's number of the image -> the UNet's output."""


@torch.no_grad()
def squared_errors(
    predict: Predict,
    latents: torch.Tensor,
    timesteps: torch.Tensor,
    noises: torch.Tensor,
    alphas_cumprod: torch.Tensor,
    *,
    predicts_velocity: bool,
    rows: int,
) -> torch.Tensor:
    """Return squared errors, means over channels, float32 [B, T, h, w]. All tensors are on the model's device.

    ``latents``: [B, 4, h, w]. ``timesteps``: int64 [T], below the length of ``alphas_cumprod`` (float32 [steps]).
    ``noises``: float32 [T, 4, h, w], the same for all images. ``rows``: the most rows of one call of the model.
    """
    pairs = [(image, number) for image in range(len(latents)) for number in range(len(timesteps))]
    errors = []
    for start in range(0, len(pairs), rows):
        images, numbers = map(list, zip(*pairs[start : start + rows], strict=True))
        noise, steps = noises[numbers], timesteps[numbers]  # [R, 4, h, w], [R]
        signal = alphas_cumprod[steps].float().view(-1, 1, 1, 1)  # [R, 1, 1, 1]
        noisy = signal.sqrt() * latents[images].float() + (1 - signal).sqrt() * noise  # [R, 4, h, w]
        predicted = predict(noisy, steps, images).float()  # [R, 4, h, w]
        if predicts_velocity:
            predicted = signal.sqrt() * predicted + (1 - signal).sqrt() * noisy  # [R, 4, h, w]
        errors.append((predicted - noise).square().mean(1))  # [R, h, w]
    return torch.cat(errors).view(len(latents), len(timesteps), *latents.shape[2:])
