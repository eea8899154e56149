"""The pictures of the demo world's objects, cut once from the OFL-licensed Noto Color Emoji font.

``python -m lib_gie.demo.world.glyphs FONT.ttf`` makes ``glyphs.png``, the atlas that everything else reads. It takes
the edition of the font that holds bitmaps. Nobody needs the font after that.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from lib_gie.assets import WORLD_GLYPHS

from .things import OBJECTS, characters

ATLAS_SIZE = 64
"""Pixels per side of a glyph in the atlas: half the side of the largest image."""

BITMAP_SIZE = 109
"""The only size that the font's embedded bitmaps have."""

_MARGIN = 2


def drawn(font: ImageFont.FreeTypeFont, character: str) -> Image.Image:
    """Return one character of the font as an RGBA image without empty borders."""
    canvas = Image.new("RGBA", (136, 136), (0, 0, 0, 0))
    ImageDraw.Draw(canvas).text((0, 0), character, font=font, embedded_color=True)
    return canvas.crop(canvas.getbbox())


def _fork(font: ImageFont.FreeTypeFont) -> Image.Image:
    """Return the fork of the font's fork and knife, twice as wide and askew, so that it is no thin line."""
    both = drawn(font, characters()["fork"])
    fork = both.crop((0, 0, both.width // 2, both.height))
    fork = fork.crop(fork.getbbox())
    wide = fork.resize((2 * fork.width, fork.height), Image.Resampling.LANCZOS)
    grey = np.asarray(wide, dtype=np.float32)
    grey[..., :3] *= 0.62  # the font's fork is lighter than most backgrounds' paper
    turned = Image.fromarray(grey.astype(np.uint8), "RGBA").rotate(40, Image.Resampling.BICUBIC, expand=True)
    return turned.crop(turned.getbbox())


def fitted(glyph: Image.Image, size: int, margin: int) -> Image.Image:
    """Return a glyph as an RGBA image, ``size`` pixels a side, centred. Its longer side fills all but the margin."""
    factor = (size - 2 * margin) / max(glyph.size)
    glyph = glyph.resize([max(1, round(side * factor)) for side in glyph.size], Image.Resampling.LANCZOS)
    result = Image.new("RGBA", (size, size), (0, 0, 0, 0))
    result.paste(glyph, ((size - glyph.width) // 2, (size - glyph.height) // 2))
    return result


def save_atlas(cells: Sequence[Image.Image], target: Path) -> None:
    """Write square RGBA images of one size, side by side, into one PNG."""
    size = cells[0].width
    atlas = Image.new("RGBA", (size * len(cells), size), (0, 0, 0, 0))
    for index, cell in enumerate(cells):
        atlas.paste(cell, (index * size, 0))
    atlas.save(target, optimize=True)


def make_atlas(font_path: str, target: Path = WORLD_GLYPHS) -> None:
    """Draw all objects side by side, in the order of OBJECTS, into one RGBA PNG."""
    font = ImageFont.truetype(font_path, BITMAP_SIZE)
    glyphs = [_fork(font) if name == "fork" else drawn(font, characters()[name]) for name in OBJECTS]
    save_atlas([fitted(glyph, ATLAS_SIZE, _MARGIN) for glyph in glyphs], target)


def premultiplied(picture: np.ndarray) -> np.ndarray:
    """Return a picture, float32 [g, g, 4], with its colours multiplied by alpha, so that pixels can be averaged."""
    alpha = picture[..., 3:]
    return np.concatenate([picture[..., :3] * alpha, alpha], axis=2)


@functools.cache
def load_glyphs(size: int) -> dict[str, np.ndarray]:
    """Return every object's picture: float32 [size, size, 4], RGBA from 0 to 1, colours not multiplied by alpha.

    ``size``: pixels per side, ATLAS_SIZE divided by a whole number.
    """
    atlas = np.asarray(Image.open(WORLD_GLYPHS).convert("RGBA"), dtype=np.float32) / 255  # [64, 64*n, 4]
    step = ATLAS_SIZE // size
    result = {}
    for name, cell in zip(OBJECTS, np.split(atlas, len(OBJECTS), axis=1), strict=True):
        small = premultiplied(cell).reshape(size, step, size, step, 4).mean((1, 3))  # [size, size, 4]
        small[..., :3] /= np.maximum(small[..., 3:], 1e-6)
        result[name] = small
    return result


if __name__ == "__main__":
    make_atlas(sys.argv[1])
