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


def contact_sheet(
    headings: Sequence[str], rows: Sequence[SheetRow], side: int = 192, text_width: int = 250
) -> Image.Image:
    """Draw a sheet with a column of texts on the left and one column of images per heading."""
    top = 44
    size = (
        text_width + len(headings) * (side + _PAD) + 2 * _PAD,
        top + len(rows) * (side + _PAD) + _PAD,
    )
    sheet = Image.new("RGB", size, _PAPER)
    pen = ImageDraw.Draw(sheet)
    for column, heading in enumerate(headings):
        pen.text((text_width + _PAD + column * (side + _PAD), 14), heading, fill=_INK, font=font(17))
    for line, row in enumerate(rows):
        y = top + line * (side + _PAD)
        title = _wrapped(row.title, text_width, 17)
        pen.multiline_text((_PAD, y + 4), title, fill=_INK, font=font(17), spacing=6)
        box = pen.multiline_textbbox((_PAD, y + 4), title, font=font(17), spacing=6)
        note = _wrapped(row.note, text_width, 14)
        pen.multiline_text((_PAD, box[3] + 12), note, fill=_SOFT, font=font(14), spacing=5)
        for column, image in enumerate(row.images):
            sheet.paste(enlarged(image, side), (text_width + _PAD + column * (side + _PAD), y))
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
