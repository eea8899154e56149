"""Tensors of images, turned into pictures."""

from __future__ import annotations

from typing import Any

from PIL import Image


def picture(image: Any) -> Image.Image:
    """Return a tensor, float32 [3, H, W], 0 to 1, on the CPU, as an RGB picture."""
    return Image.fromarray((image.permute(1, 2, 0) * 255).round().byte().numpy())
