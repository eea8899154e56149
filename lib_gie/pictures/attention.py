"""Where the concept's attention was, as an overlay on the image."""

from __future__ import annotations

import math
from collections.abc import Hashable

import numpy as np
import torch
from PIL import Image
from torch.nn import functional as F

from ..statistics import AttentionRecorder

_FAINT = 0.05
"""Attention below this is shown faint even where it is the image's strongest: the concept is hardly there."""

_COLOUR = np.array([255, 40, 0], dtype=np.float32)


def _shape(pixels: int, width: int, height: int) -> tuple[int, int] | None:
    """Rows and columns of so many attention pixels in an image of this shape, or None where they do not fit it."""
    rows = max(1, round(math.sqrt(pixels * height / width)))
    return (rows, pixels // rows) if pixels % rows == 0 else None


def attention_map(recorder: AttentionRecorder, concept: int, row: Hashable, width: int, height: int) -> np.ndarray:
    """The concept's attention averaged over steps and the two finest resolutions: float32 [height, width], 0 to 1."""
    finest = recorder.resolutions(concept, row)[:2]
    layers = []
    for pixels in finest:
        shape = _shape(pixels, width, height)
        if shape is not None:
            values = recorder.average(concept, row, pixels).reshape(1, 1, *shape).float().cpu()
            layers.append(F.interpolate(values, (height, width), mode="bicubic", align_corners=False)[0, 0])
    return torch.stack(layers).mean(0).clamp(0, 1).numpy()


def overlay(image: Image.Image, attention: np.ndarray) -> Image.Image:
    """The image, darkened, with the attention in red; the strongest place is full red unless all are faint."""
    strength = attention / max(float(attention.max()), _FAINT)  # [H, W]
    strength = strength[..., None] ** 1.5 * 0.85  # [H, W, 1]
    grey = np.asarray(image.convert("L").convert("RGB"), dtype=np.float32) * 0.75  # [H, W, 3]
    mixed = grey * (1 - strength) + _COLOUR * strength
    return Image.fromarray(mixed.round().clip(0, 255).astype(np.uint8))
