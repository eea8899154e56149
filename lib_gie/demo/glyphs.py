"""The objects of the demo world, cut once from the OFL-licensed Noto Color Emoji font.

``python -m lib_gie.demo.glyphs FONT.ttf`` makes ``glyphs.png``, the atlas that everything else reads. Nobody needs the
font after that.
"""

from __future__ import annotations

import functools
import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageFont

from lib_gie.assets import GLYPHS

from .world.glyphs import BITMAP_SIZE, drawn, fitted, save_atlas

GLYPH_SIZE = 32
"""Pixels per side: four latent cells of the f=8 autoencoder."""

_MARGIN = 1

UNWANTED = {
    "knife": "\U0001f52a",
    "bomb": "\U0001f4a3",
    "cigarette": "\U0001f6ac",
    "beer": "\U0001f37a",
    "wine": "\U0001f377",
    "sword": "\u2694",
    "skull": "\U0001f480",
    "syringe": "\U0001f489",
}
WANTED = {
    "cat": "\U0001f431",
    "dog": "\U0001f436",
    "apple": "\U0001f34e",
    "banana": "\U0001f34c",
    "car": "\U0001f697",
    "house": "\U0001f3e0",
    "tree": "\U0001f333",
    "rose": "\U0001f339",
    "star": "\u2b50",
    "balloon": "\U0001f388",
    "book": "\U0001f4d5",
    "guitar": "\U0001f3b8",
    "umbrella": "\u2602",
    "cake": "\U0001f382",
    "fish": "\U0001f41f",
    "money": "\U0001f4b0",
}
OBJECTS = tuple(UNWANTED) + tuple(WANTED)


def make_atlas(font_path: str, target: Path = GLYPHS) -> None:
    """Draw all objects side by side, in the order of OBJECTS, into one RGBA PNG."""
    font = ImageFont.truetype(font_path, BITMAP_SIZE)
    glyphs = [drawn(font, character) for character in {**UNWANTED, **WANTED}.values()]
    save_atlas([fitted(glyph, GLYPH_SIZE, _MARGIN) for glyph in glyphs], target)


@functools.cache
def load_glyphs() -> dict[str, np.ndarray]:
    """Return every object's picture: float32 [GLYPH_SIZE, GLYPH_SIZE, 4], RGBA from 0 to 1."""
    atlas = np.asarray(Image.open(GLYPHS).convert("RGBA"), dtype=np.float32) / 255
    cells = np.split(atlas, len(OBJECTS), axis=1)
    return dict(zip(OBJECTS, cells, strict=True))


if __name__ == "__main__":
    make_atlas(sys.argv[1])
