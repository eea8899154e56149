"""Which models adapters can be trained on."""

from __future__ import annotations

from typing import Any

import torch

from lib_gie.core.call import LATENT_CHANNELS
from lib_gie.errors import UnsupportedModelError
from lib_gie.hosts.webui.host.model import family_and_heads, unet_of

_INPAINTING_CHANNELS = 5  # mask and masked picture, beside the latents


def trainable_family(model: Any) -> str:
    """Return the family of a model that adapters can be trained on. Raises UnsupportedModelError for others."""
    unet = unet_of(model)
    base, _ = family_and_heads(unet)
    _check_latents(model, unet)
    return base


def _check_latents(model: Any, unet: torch.nn.Module) -> None:
    channels = getattr(unet, "in_channels", LATENT_CHANNELS)
    edits = getattr(model, "cond_stage_key", None) == "edit"
    if edits or channels not in (LATENT_CHANNELS, LATENT_CHANNELS + _INPAINTING_CHANNELS):
        kind = "edits a given picture" if edits else "is neither an ordinary nor an inpainting model"
        raise UnsupportedModelError(
            f"the UNet takes {channels} channels: the checkpoint {kind}, so no image can be made from a prompt "
            f"alone; train on the ordinary checkpoint of the same family, whose adapters it takes"
        )
