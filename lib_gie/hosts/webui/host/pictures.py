"""The picture that the WebUI gives an inpainting model beside the latents where there is none: txt2img's."""

from __future__ import annotations

from collections.abc import Collection

import torch
from modules import devices, processing

from lib_gie.core.call import LATENT_CHANNELS, Size, UNetCall
from lib_gie.errors import ErasureError
from lib_gie.randomness import undrawn

from .chosen import HOST
from .contract import Model
from .model import unet_of


def takes_picture(unet: torch.nn.Module) -> bool:
    """Tell whether a UNet takes more channels than the latents'."""
    return bool(getattr(unet, "in_channels", LATENT_CHANNELS) != LATENT_CHANNELS)


def blank_picture(model: Model, size: Size) -> torch.Tensor | None:
    """Return what the WebUI gives an inpainting model beside the latents in txt2img, [1, 5, h, w]; None for others.

    ``size``: height and width of the latents. The autoencoder encodes it, so call it outside the UNet's forward.
    """
    if not takes_picture(unet_of(model)):
        return None
    shape = (1, LATENT_CHANNELS, *size)
    latents = torch.zeros(shape, device=devices.device, dtype=HOST.unet_dtype(model))  # [1, 4, h, w]
    with undrawn():  # the autoencoder draws from the distribution that it finds
        torch.manual_seed(0)
        with torch.no_grad(), devices.autocast():
            picture: torch.Tensor = processing.txt2img_image_conditioning(model, latents, 8 * size[1], 8 * size[0])
            return picture


def with_picture(latents: torch.Tensor, picture: torch.Tensor | None) -> torch.Tensor:
    """Return ``latents`` [R, 4, h, w] followed by ``picture`` [1, 5, h, w] where there is one: [R, 4 or 9, h, w]."""
    return latents if picture is None else torch.cat([latents, picture.to(latents).expand(len(latents), -1, -1, -1)], 1)


class TextCalls:
    """Makes UNet calls for a prompt's text alone: an inpainting model gets txt2img's picture in the user's place.

    The pictures are made at once, for latents of these ``sizes``: within a UNet call nothing may be encoded.
    """

    def __init__(self, model: Model, sizes: Collection[Size]):
        self._pictures = {size: blank_picture(model, size) for size in sizes}

    def of(self, call: UNetCall, size: Size) -> UNetCall:
        """Return what a call of the WebUI's is for text alone, at latents of this size.

        Its latents are 0, for a reading puts its noise there. Raises ErasureError for a size that was not named.
        """
        if size not in self._pictures:
            raise ErasureError(f"a picture of {size} latents is needed; expected one of {list(self._pictures)}")
        picture = self._pictures[size]
        if picture is None:
            return call
        rows = call.latents.new_zeros(call.batch, LATENT_CHANNELS, *size)  # [R, 4, h, w]
        return call.with_latents(with_picture(rows, picture))
