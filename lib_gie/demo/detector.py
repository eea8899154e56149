"""The demo world's detector: it tells which objects an image shows by matching the known glyphs.

Every glyph is compared with every place of the image. Both are compared as differences from the plain background, so
its colour does not matter. A place that one glyph explains is not given to another. ``python -m lib_gie quality``
measures precision and recall on newly drawn scenes that went through the autoencoder.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from .glyphs import OBJECTS, load_glyphs
from .scenes import BACKGROUNDS
from .world.detector import matches


@dataclass(frozen=True)
class Find:
    """One object in an image: its name, its box's left upper corner in pixels and how well it matches (cosine)."""

    name: str
    x: int
    y: int
    similarity: float


def background_colour(image: torch.Tensor) -> torch.Tensor:
    """Return the plain colour behind the objects, the densest among the pixels: float [3, H, W] -> float32 [3]."""
    pixels = image.flatten(1).T  # [H*W, 3]
    bins = (pixels * 15.999).long() @ torch.tensor([256, 16, 1])  # [H*W]
    values, counts = bins.unique(return_counts=True)
    near = bins == values[counts.argmax()]  # [H*W]
    centre = pixels[near].mean(0)  # [3]
    close = (pixels - centre).abs().amax(1) < 0.12  # [H*W]
    return pixels[close].mean(0)  # [3]


def background_name(image: torch.Tensor) -> str:
    """Return the name of the demo world's colour that is nearest to the image's background."""
    colours = torch.tensor(list(BACKGROUNDS.values()), dtype=torch.float32) / 255  # [colours, 3]
    distance = (colours - background_colour(image)).square().sum(1)  # [colours]
    return tuple(BACKGROUNDS)[int(distance.argmin())]


def _templates(colour: torch.Tensor) -> torch.Tensor:
    """Return all glyphs as differences from the background: float32 [glyphs, 3, g, g]."""
    glyphs = torch.from_numpy(np.stack([load_glyphs()[name] for name in OBJECTS])).permute(0, 3, 1, 2)
    return glyphs[:, 3:] * (glyphs[:, :3] - colour[:, None, None])  # [glyphs, 3, g, g]


def find_objects(image: torch.Tensor) -> list[Find]:
    """Return all objects in one image (float [3, H, W], 0 to 1), best match first."""
    colour = background_colour(image)
    templates = _templates(colour)
    difference = image - colour[:, None, None]  # [3, H, W]
    found = matches(difference, templates)
    return [Find(OBJECTS[glyph], x, y, float(scores[glyph])) for glyph, y, x, scores in found]


def detect(image: torch.Tensor) -> frozenset[str]:
    """Return the names of the objects in one image (float [3, H, W], 0 to 1)."""
    return frozenset(find.name for find in find_objects(image.float()))


def detect_image(image) -> frozenset[str]:
    """Return the names of the objects in a Pillow image."""
    array = np.asarray(image.convert("RGB"), dtype=np.float32) / 255  # [H, W, 3]
    return detect(torch.from_numpy(array).permute(2, 0, 1))
