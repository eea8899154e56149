"""A concept's attention as an overlay on the image, with a legend, and step by step."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch.nn import functional as F

from lib_gie.core.recorder import AttentionRecorder

from .fonts import font
from .sheet import enlarged

_FAINT = 0.05
"""Smaller differences in attention are shown faint even where they are an image's greatest."""

_COLOUR = np.array([255, 40, 0], dtype=np.float32)
_LEGEND, _BAR = 52, 12  # pixels
_LEAST_SIDE, _STEP_SIDE = 320, 128
_COLUMNS = 8


@dataclass(frozen=True)
class Region:
    """An image's size in pixels, and the box (x, y, width, height) of it that was sampled, None for all of it."""

    width: int
    height: int
    box: tuple[int, int, int, int] | None = None


def _shape(pixels: int, width: int, height: int) -> tuple[int, int] | None:
    """Return rows and columns of this many attention pixels in an image of this shape, None where they do not fit."""
    rows = max(1, round(math.sqrt(pixels * height / width)))
    return (rows, pixels // rows) if pixels % rows == 0 else None


def attention_map(
    recorder: AttentionRecorder, concept: int, row: Hashable, width: int, height: int, step: int | None = None
) -> np.ndarray:
    """Return the concept's attention, the mean over the two finest resolutions and all steps, or of one ``step``.

    Float32 [height, width], 0 to 1; 0 where nothing was recorded.
    """
    finest = recorder.resolutions(concept, row)[:2]
    layers = [torch.zeros(height, width)] * (not finest)
    for pixels in finest:
        shape = _shape(pixels, width, height)
        if shape is not None:
            values = recorder.average(concept, row, pixels, step).reshape(1, 1, *shape).float().cpu()
            layers.append(F.interpolate(values, (height, width), mode="bicubic", align_corners=False)[0, 0])
    return torch.stack(layers).mean(0).clamp(0, 1).numpy()


def region_map(
    recorder: AttentionRecorder, concept: int, rows: Sequence[Hashable], region: Region, step: int | None = None
) -> np.ndarray:
    """Return the greatest ``attention_map`` of several rows within a region, 0 around it: float32 [height, width]."""
    x, y, width, height = region.box or (0, 0, region.width, region.height)
    found = np.zeros((region.height, region.width), dtype=np.float32)
    maps = [attention_map(recorder, concept, row, width, height, step) for row in rows]  # each [h, w]
    part = found[y : y + height, x : x + width]
    part[:] = np.maximum.reduce(maps)[: part.shape[0], : part.shape[1]]
    return found


def step_maps(
    recorder: AttentionRecorder, concept: int, rows: Sequence[Hashable], region: Region
) -> dict[int, np.ndarray]:
    """Return the ``region_map`` of every step that was recorded, by its number: float32 [height, width] each."""
    steps = recorder.steps(concept, rows[0])
    return {step: region_map(recorder, concept, rows, region, step) for step in steps}


@dataclass(frozen=True)
class Span:
    """The range of an overlay: attention up to ``grey`` is grey, from ``red`` on it is full red."""

    grey: float
    red: float

    @classmethod
    def of(cls, *maps: np.ndarray) -> Span:
        """Return the span from the least to the most attention in these maps, where 0 means not sampled."""
        found = np.concatenate([attention[attention > 0] for attention in maps])
        grey, red = (float(found.min()), float(found.max())) if found.size else (0.0, 0.0)
        return cls(grey, max(red, grey + _FAINT))

    def share(self, attention: np.ndarray) -> np.ndarray:
        """Return how red each place is, 0 to 1."""
        return np.clip((attention - self.grey) / (self.red - self.grey), 0, 1)


def _percent(value: float) -> str:
    return f"{100 * value:.0f} %" if value == 0 or value >= 0.01 else f"{100 * value:.1f} %"


def _mixed(grey: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Mix red into ``grey`` [H, W, 3], as much as ``share`` [H, W] says: uint8 [H, W, 3]."""
    strength = share[..., None] ** 1.5 * 0.85  # [H, W, 1]
    return (grey * (1 - strength) + _COLOUR * strength).round().clip(0, 255).astype(np.uint8)


def overlay(image: Image.Image, attention: np.ndarray, span: Span | None = None) -> Image.Image:
    """Draw the image, darkened, with the attention in red. ``span``: by default the map's own."""
    grey = np.asarray(image.convert("L").convert("RGB"), dtype=np.float32) * 0.75  # [H, W, 3]
    return Image.fromarray(_mixed(grey, (span or Span.of(attention)).share(attention)))


def _legend(width: int, text: str, span: Span) -> Image.Image:
    """Draw a text, and a bar from grey to full red with their numbers."""
    strip = Image.new("RGB", (width, _LEGEND), "white")
    pen = ImageDraw.Draw(strip)
    pen.text((8, 5), text, fill="black", font=font(14))
    left, right = 54, max(120, width - 70)
    ramp = np.tile(np.linspace(0, 1, right - left, dtype=np.float32), (_BAR, 1))  # [bar, width]
    strip.paste(Image.fromarray(_mixed(np.full((*ramp.shape, 3), 96, dtype=np.float32), ramp)), (left, 30))
    pen.text((8, 27), _percent(span.grey), fill="black", font=font(13))
    pen.text((right + 8, 27), _percent(span.red), fill="black", font=font(13))
    return strip


def _with_legend(picture: Image.Image, text: str, span: Span) -> Image.Image:
    legend = _legend(picture.width, text, span)
    result = Image.new("RGB", (picture.width, picture.height + _LEGEND), "white")
    result.paste(picture, (0, 0))
    result.paste(legend, (0, picture.height))
    return result


def explained(image: Image.Image, attention: np.ndarray, text: str) -> Image.Image:
    """Draw the overlay above a legend of ``text`` and the attention of grey and full red. Small images are enlarged."""
    span = Span.of(attention)
    picture = overlay(image, attention, span)
    picture = enlarged(picture, max(_LEAST_SIDE, *picture.size))
    return _with_legend(picture, text, span)


def steps_sheet(image: Image.Image, steps: Mapping[int, np.ndarray], text: str) -> Image.Image:
    """Draw an overlay for every step, numbered from 1, all on one scale, above a legend."""
    span = Span.of(*steps.values())
    small = [(number, enlarged(overlay(image, attention, span), _STEP_SIDE)) for number, attention in steps.items()]
    width, height = small[0][1].size
    columns, lines = min(_COLUMNS, len(small)), -(-len(small) // _COLUMNS)
    sheet = Image.new("RGB", (max(_LEAST_SIDE, columns * (width + 4)), lines * (height + 22)), "white")
    pen = ImageDraw.Draw(sheet)
    for place, (number, picture) in enumerate(small):
        x, y = place % _COLUMNS * (width + 4), place // _COLUMNS * (height + 22)
        pen.text((x + 4, y + 2), str(number + 1), fill="black", font=font(14))
        sheet.paste(picture, (x, y + 20))
    return _with_legend(sheet, text, span)
