"""Rows of labelled images."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw

from .fonts import font

_PAD = 12
_INK, _PAPER, _SOFT = (25, 25, 30), (255, 255, 255), (110, 110, 120)


@dataclass(frozen=True)
class SheetRow:
    """One line of a contact sheet: a text, a second smaller one, and its images."""

    title: str
    note: str
    images: Sequence[Image.Image]


def enlarged(image: Image.Image, side: int) -> Image.Image:
    """Resize the image so that its longer side has this many pixels."""
    factor = side / max(image.size)
    filter_ = Image.Resampling.BICUBIC if factor > 1 else Image.Resampling.LANCZOS
    return image.resize([round(v * factor) for v in image.size], filter_)


def _wrapped(text: str, width: int, size: int) -> str:
    """Break lines that are too wide for this many pixels at a font's size. The text's own line breaks stay."""
    letters = max(8, int(width / (size * 0.52)))
    return "\n".join(line for part in text.splitlines() for line in textwrap.wrap(part, letters) or [""])


_NOTE_BELOW = 16
"""Pixels from a row's top, without its title, to its note."""


def _end(text: str, size: int, spacing: int) -> int:
    """Return how many pixels a text ends below where it begins."""
    pen = ImageDraw.Draw(Image.new("RGB", (1, 1)))
    return int(pen.multiline_textbbox((0, 0), text, font=font(size), spacing=spacing)[3])


def _height(title: str, note: str) -> int:
    """Return how many pixels a row's texts take."""
    return _NOTE_BELOW + _end(title, 17, 6) + _end(note, 14, 5)


def contact_sheet(
    headings: Sequence[str], rows: Sequence[SheetRow], side: int = 192, text_width: int = 250
) -> Image.Image:
    """Draw a sheet with a column of texts on the left and one column of images per heading."""
    top = 44
    texts = [(_wrapped(row.title, text_width, 17), _wrapped(row.note, text_width, 14)) for row in rows]
    heights = [max(side, _height(*text)) for text in texts]
    size = (text_width + len(headings) * (side + _PAD) + 2 * _PAD, top + sum(heights) + (len(rows) + 1) * _PAD)
    sheet = Image.new("RGB", size, _PAPER)
    pen = ImageDraw.Draw(sheet)
    for column, heading in enumerate(headings):
        pen.text((text_width + _PAD + column * (side + _PAD), 14), heading, fill=_INK, font=font(17))
    y = top
    for row, (title, note), height in zip(rows, texts, heights, strict=True):
        pen.multiline_text((_PAD, y + 4), title, fill=_INK, font=font(17), spacing=6)
        below = y + _NOTE_BELOW + _end(title, 17, 6)
        pen.multiline_text((_PAD, below), note, fill=_SOFT, font=font(14), spacing=5)
        for column, image in enumerate(row.images):
            sheet.paste(enlarged(image, side), (text_width + _PAD + column * (side + _PAD), y))
        y += height + _PAD
    return sheet


def strip(images: Sequence[Image.Image], gap: int = 0) -> Image.Image:
    """Put images of equal size side by side."""
    width, height = images[0].size
    result = Image.new("RGB", (len(images) * (width + gap) - gap, height), _PAPER)
    for column, image in enumerate(images):
        result.paste(image, (column * (width + gap), 0))
    return result


def stacked(images: Sequence[Image.Image], gap: int = _PAD) -> Image.Image:
    """Put images one below the other."""
    size = max(image.width for image in images), sum(image.height + gap for image in images) - gap
    result, y = Image.new("RGB", size, _PAPER), 0
    for image in images:
        result.paste(image, (0, y))
        y += image.height + gap
    return result
