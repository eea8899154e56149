"""The pictures of the demo world's objects, cut once from the OFL-licensed Noto Color Emoji font.

``python -m lib_gie.demo.world.glyphs FONT.ttf`` makes ``glyphs.png``, the atlas that everything else reads. It takes
the edition of the font that holds bitmaps. Nobody needs the font after that.
"""

from __future__ import annotations

import functools
import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from lib_gie.assets import WORLD_GLYPHS

from .things import OBJECTS, characters

ATLAS_SIZE = 64
"""Pixels per side of a glyph in the atlas: half the side of the largest image."""

_BITMAP_SIZE = 109  # the only size that the font's embedded bitmaps have
_MARGIN = 2


def _drawn(font: ImageFont.FreeTypeFont, character: str) -> Image.Image:
    """Return one character of the font as an RGBA image without empty borders."""
    canvas = Image.new("RGBA", (136, 136), (0, 0, 0, 0))
    ImageDraw.Draw(canvas).text((0, 0), character, font=font, embedded_color=True)
    return canvas.crop(canvas.getbbox())


def _fork(font: ImageFont.FreeTypeFont) -> Image.Image:
    """Return the fork of the font's fork and knife, twice as wide and askew, so that it is no thin line."""
    both = _drawn(font, characters()["fork"])
    fork = both.crop((0, 0, both.width // 2, both.height))
    fork = fork.crop(fork.getbbox())
    wide = fork.resize((2 * fork.width, fork.height), Image.Resampling.LANCZOS)
    grey = np.asarray(wide, dtype=np.float32)
    grey[..., :3] *= 0.62  # the font's fork is lighter than most backgrounds' paper
    turned = Image.fromarray(grey.astype(np.uint8), "RGBA").rotate(40, Image.Resampling.BICUBIC, expand=True)
    return turned.crop(turned.getbbox())


def _cut(font: ImageFont.FreeTypeFont, name: str) -> Image.Image:
    """Draw one object as an RGBA image of ATLAS_SIZE, centred. Its longer side fills all but the margin."""
    glyph = _fork(font) if name == "fork" else _drawn(font, characters()[name])
    factor = (ATLAS_SIZE - 2 * _MARGIN) / max(glyph.size)
    glyph = glyph.resize([max(1, round(side * factor)) for side in glyph.size], Image.Resampling.LANCZOS)
    result = Image.new("RGBA", (ATLAS_SIZE, ATLAS_SIZE), (0, 0, 0, 0))
    result.paste(glyph, ((ATLAS_SIZE - glyph.width) // 2, (ATLAS_SIZE - glyph.height) // 2))
    return result


def make_atlas(font_path: str, target: Path = WORLD_GLYPHS) -> None:
    """Draw all objects side by side, in the order of OBJECTS, into one RGBA PNG."""
    font = ImageFont.truetype(font_path, _BITMAP_SIZE)
    atlas = Image.new("RGBA", (ATLAS_SIZE * len(OBJECTS), ATLAS_SIZE), (0, 0, 0, 0))
    for index, name in enumerate(OBJECTS):
        atlas.paste(_cut(font, name), (index * ATLAS_SIZE, 0))
    atlas.save(target, optimize=True)


@functools.cache
def load_glyphs(size: int) -> dict[str, np.ndarray]:
    """Return every object's picture: float32 [size, size, 4], RGBA from 0 to 1, colours not multiplied by alpha.

    ``size``: pixels per side, ATLAS_SIZE divided by a whole number.
    """
    atlas = np.asarray(Image.open(WORLD_GLYPHS).convert("RGBA"), dtype=np.float32) / 255  # [64, 64*n, 4]
    step = ATLAS_SIZE // size
    result = {}
    for name, cell in zip(OBJECTS, np.split(atlas, len(OBJECTS), axis=1), strict=True):
        weighted = np.concatenate([cell[..., :3] * cell[..., 3:], cell[..., 3:]], axis=2)  # [64, 64, 4]
        small = weighted.reshape(size, step, size, step, 4).mean((1, 3))  # [size, size, 4]
        small[..., :3] /= np.maximum(small[..., 3:], 1e-6)
        result[name] = small
    return result


if __name__ == "__main__":
    make_atlas(sys.argv[1])
