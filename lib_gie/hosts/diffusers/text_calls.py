"""UNet calls for a prompt's text alone: calibrations are read in these, whatever pictures a pipeline is given."""

from __future__ import annotations

from typing import Any

import torch

from lib_gie.core.call import LATENT_CHANNELS, Size, UNetCall

_PICTURES = (
    "down_block_additional_residuals",
    "mid_block_additional_residual",
    "down_intrablock_additional_residuals",
)
"""Arguments of a UNet by which ControlNet and T2I-Adapter give it a picture."""

_INPAINTING = 9
"""Channels of an inpainting UNet: latents, mask, latents of what is around the mask."""

_GUIDANCE = 7.5
"""The guidance that a distilled UNet (LCM) is told, less 1: its pipeline's default."""

_NOISE_LEVEL = 20
"""The noise on the picture that an upscaling UNet is told of: its pipeline's default."""

_AESTHETIC = 6.0
"""The score that SDXL's refiner is told for what the prompt describes: its pipelines' default."""


class TextCalls:
    """Makes a pipeline's UNet calls for text alone.

    Where a UNet takes a picture it is told of an empty one. An inpainting UNet is told to paint everything. All that
    follows from a picture's or image's size is that of the latents. Only IP-Adapter's pictures stay.
    """

    def __init__(self, pipe: Any):
        self._pipe = pipe

    def make(
        self, latents: torch.Tensor, timesteps: torch.Tensor, states: torch.Tensor, pooled: torch.Tensor | None
    ) -> UNetCall:
        """Return the call for latents [R, 4, h, w], timesteps int64 [R], text states [R, 77, D] and pooled ones [R, P].

        The latents get the device and dtype of the UNet.
        """
        unet, count = self._pipe.unet, len(latents)
        device, config = states.device, unet.config
        latents = latents.to(device, unet.dtype)  # [R, 4, h, w]
        more = config.in_channels - LATENT_CHANNELS
        noisy = torch.cat([latents, latents.new_zeros(count, more, *latents.shape[2:])], 1)  # [R, C, h, w]
        given: dict[str, Any] = {"encoder_hidden_states": states}
        if pooled is not None:
            numbers = unet.add_embedding.linear_1.in_features - pooled.shape[-1]
            ids = states.new_zeros(count, numbers // config.addition_time_embed_dim)  # [R, 5 or 6]
            given["added_cond_kwargs"] = {"text_embeds": pooled, "time_ids": ids}
        if config.time_cond_proj_dim is not None:
            given["timestep_cond"] = latents.new_zeros(count, config.time_cond_proj_dim)  # [R, G]
        if config.num_class_embeds is not None:
            given["class_labels"] = torch.zeros(count, dtype=torch.long, device=device)  # [R]
        return self.of(UNetCall((noisy, timesteps.to(device)), given), tuple(latents.shape[2:]))

    def of(self, call: UNetCall, size: Size) -> UNetCall:
        """Return what a call of the pipeline's is for text alone, at latents of this height and width."""
        kwargs = {name: value for name, value in call.kwargs.items() if name not in _PICTURES}
        added = kwargs.get("added_cond_kwargs")
        if added and "time_ids" in added:
            kwargs["added_cond_kwargs"] = {**added, "time_ids": self._time_ids(added["time_ids"], size)}
        if kwargs.get("timestep_cond") is not None:
            kwargs["timestep_cond"] = self._guidance(kwargs["timestep_cond"])
        if kwargs.get("class_labels") is not None:
            kwargs["class_labels"] = torch.full_like(kwargs["class_labels"], _NOISE_LEVEL)
        return UNetCall(call.args, kwargs).with_latents(_without_picture(call.latents))

    def _time_ids(self, given: torch.Tensor, size: Size) -> torch.Tensor:
        """Return what SDXL is told of an image of this size that nothing was cut off from: [R, 5 or 6]."""
        height, width = (side * self._pipe.vae_scale_factor for side in size)
        whole = [height, width, 0, 0]
        numbers = [*whole, _AESTHETIC] if given.shape[-1] == len(whole) + 1 else [*whole, height, width]
        return torch.tensor(numbers).to(given).expand(len(given), -1)

    def _guidance(self, given: torch.Tensor) -> torch.Tensor:
        """Return what tells a distilled UNet its guidance, for all rows [R, G]."""
        told = torch.tensor([_GUIDANCE])
        embedded: torch.Tensor = self._pipe.get_guidance_scale_embedding(told, embedding_dim=given.shape[-1])
        return embedded.to(given).expand(len(given), -1)


def _without_picture(latents: torch.Tensor) -> torch.Tensor:
    """Return latents [R, C, h, w] with an empty picture in the channels beyond the first four."""
    channels = latents.shape[1]
    if channels == LATENT_CHANNELS:
        return latents
    empty = torch.zeros_like(latents[:, LATENT_CHANNELS:])  # [R, C - 4, h, w]
    if channels == _INPAINTING:
        empty[:, 0] = 1
    return torch.cat([latents[:, :LATENT_CHANNELS], empty], 1)  # [R, C, h, w]
