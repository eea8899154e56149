"""Turns a UNet's output into noise and clean latents, and tells how far that noise is from the noise that was added."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from .image_maker import Predictor


def predicted_noise(maker: Predictor, output: torch.Tensor, noisy: torch.Tensor, steps: torch.Tensor) -> torch.Tensor:
    """Return the noise that a UNet's output tells, float32 [R, 4, h, w].

    ``noisy``: the latents that it was given, float32 [R, 4, h, w], at the timesteps ``steps``, int64 [R].
    """
    if not maker.predicts_velocity:
        return output
    signal = maker.alphas_cumprod[steps].view(-1, 1, 1, 1)  # [R, 1, 1, 1]
    return signal.sqrt() * output + (1 - signal).sqrt() * noisy


def predicted_clean(maker: Predictor, output: torch.Tensor, noisy: torch.Tensor, steps: torch.Tensor) -> torch.Tensor:
    """Return the clean latents that a UNet's output tells, float32 [R, 4, h, w]; see ``predicted_noise``.

    Nothing is divided for a model that predicts velocity: some have no signal at all at their last timestep.
    """
    signal = maker.alphas_cumprod[steps].view(-1, 1, 1, 1)  # [R, 1, 1, 1]
    if maker.predicts_velocity:
        return signal.sqrt() * noisy - (1 - signal).sqrt() * output
    return (noisy - (1 - signal).sqrt() * output) / signal.sqrt()


@torch.no_grad()
def squared_errors(
    maker: Predictor, latents: torch.Tensor, texts: Sequence[str], timesteps: torch.Tensor, noises: torch.Tensor
) -> torch.Tensor:
    """Return the squared errors of the predicted noise, means over channels, float32 [B, T, h, w].

    ``latents``: float32 [B, 4, h, w], each under one of the texts (see ``ImageMaker.as_in``). ``timesteps``: int64 [T].
    ``noises``: float32 [T, 4, h, w], the same for all images.
    """
    images, count = len(latents), len(timesteps)
    steps, added = timesteps.repeat(images), noises.repeat(images, 1, 1, 1)  # [B*T], [B*T, 4, h, w]
    signal = maker.alphas_cumprod[steps].view(-1, 1, 1, 1)  # [B*T, 1, 1, 1]
    noisy = signal.sqrt() * latents.float().repeat_interleave(count, 0) + (1 - signal).sqrt() * added  # [B*T, 4, h, w]
    output = maker.predict(noisy, steps, [text for text in texts for _ in range(count)])  # [B*T, 4, h, w]
    wrong = predicted_noise(maker, output, noisy, steps) - added  # [B*T, 4, h, w]
    return wrong.square().mean(1).view(images, count, *latents.shape[2:])
