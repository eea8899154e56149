"""The styles of the demo world's images: how a background and an object look in each, and how captions tell.

Every style is a pure function of colours and glyphs, so that a detector can draw the same and compare.
All lengths are in units of a glyph's side divided by 32.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter, sobel

from .glyphs import premultiplied

_UNITS = 32  # of length, per glyph
_PAPER = np.array([0.93, 0.91, 0.86], dtype=np.float32)
_WHITE = np.array([0.98, 0.98, 0.97], dtype=np.float32)
_NIGHT = np.array([0.03, 0.03, 0.09], dtype=np.float32)
_TILE, _GROUT = 4, 0.5
_WASH_MARGIN = 5


@dataclass(frozen=True)
class Style:
    """A style.

    ``phrase``: its name in captions, empty for the plain one, of which captions say nothing. ``implied``: phrases that
    tell of it without its name; the first serves for training adapters, the second for validation, the last is held
    out. ``canvas``: makes an empty image, float32 [size, size, 3], of a background colour, float32 [3], with this many
    pixels per side. ``paint``: turns an object's picture, float32 [g, g, 4], into the style's. ``texture``: the factor
    of every pixel when all objects are in it, float32 [size, size, 1], for a number of pixels per side.
    """

    phrase: str
    implied: tuple[str, ...]
    canvas: Callable[[np.ndarray, int], np.ndarray]
    paint: Callable[[np.ndarray], np.ndarray]
    texture: Callable[[int], np.ndarray]


def _same(image: np.ndarray) -> np.ndarray:
    return image


def _smooth(size: int) -> np.ndarray:
    return np.ones((size, size, 1), dtype=np.float32)


def _flat(colour: np.ndarray, size: int) -> np.ndarray:
    return np.broadcast_to(colour.astype(np.float32), (size, size, 3)).copy()


def _paper(colour: np.ndarray, size: int) -> np.ndarray:
    return _flat(0.68 * _PAPER + 0.32 * colour, size)


def _dark(colour: np.ndarray, size: int) -> np.ndarray:
    return _flat(_NIGHT + 0.36 * colour, size)


def _wash(colour: np.ndarray, size: int) -> np.ndarray:
    """Paint the colour thinly onto white paper and leave an uneven margin bare."""
    unit = size / (2 * _UNITS)
    place = (np.arange(size) + 0.5) / unit  # [size], 0 to 64
    ragged = 1.3 * np.sin(place * 0.21 + 0.6) + 0.7 * np.sin(place * 0.47 + 1)  # [size]
    inner = np.minimum(place, 2 * _UNITS - place)  # [size], units from the edge
    depth = np.minimum(inner[:, None] + ragged[None, :], inner[None, :] + ragged[:, None])  # [size, size]
    cover = np.clip((depth - _WASH_MARGIN) / 1.5, 0, 1)[..., None]  # [size, size, 1]
    painted = 0.93 * (0.58 * _WHITE + 0.42 * colour)  # darker than bare paper, white paint too
    return (_WHITE + (painted - _WHITE) * cover).astype(np.float32)


def _edges(plane: np.ndarray) -> np.ndarray:
    """Return the strength of the edges of a plane, [g, g]."""
    unit = plane.shape[0] / _UNITS
    smooth = gaussian_filter(plane, 0.5 * unit)
    return np.hypot(sobel(smooth, 0), sobel(smooth, 1)) * unit / 4


def _pencil(glyph: np.ndarray) -> np.ndarray:
    """Draw outlines and shades with grey lead."""
    alpha, light = glyph[..., 3], glyph[..., :3] @ np.array([0.3, 0.59, 0.11], dtype=np.float32)
    outline = _edges(alpha) * 1.3 + _edges(light * alpha + (1 - alpha)) * 1.3
    lead = np.clip(outline + 0.55 * (1 - light) * alpha, 0, 1)  # [g, g]
    grey = np.full_like(glyph[..., :3], 0.17)
    return np.concatenate([grey, lead[..., None]], axis=2).astype(np.float32)


def _tiles(glyph: np.ndarray) -> np.ndarray:
    """Lay square stones, each of one colour."""
    side = _TILE * glyph.shape[0] // _UNITS
    count = glyph.shape[0] // side
    stones = premultiplied(glyph).reshape(count, side, count, side, 4).mean((1, 3))  # [count, count, 4]
    cover = stones[..., 3:]
    colours = stones[..., :3] / np.maximum(cover, 1e-6)
    laid = np.concatenate([colours, (cover > 0.3).astype(np.float32)], axis=2)
    return laid.repeat(side, 0).repeat(side, 1).astype(np.float32)


def _joints(size: int) -> np.ndarray:
    """Darken the joints between the stones."""
    place = np.arange(size) // (size // (2 * _UNITS)) % _TILE == _TILE - 1  # [size]
    joint = place[:, None] | place[None, :]  # [size, size]
    return np.where(joint, _GROUT, 1)[..., None].astype(np.float32)


def _brush(glyph: np.ndarray) -> np.ndarray:
    """Let thin paint run, and dry darker at its edge."""
    unit = glyph.shape[0] / _UNITS
    weighted = premultiplied(glyph)  # [g, g, 4]
    run = np.stack([gaussian_filter(weighted[..., i], 1.1 * unit) for i in range(4)], axis=2)  # [g, g, 4]
    colour = run[..., :3] / np.maximum(run[..., 3:], 1e-3)
    rim = np.clip(_edges(glyph[..., 3]) * 0.9, 0, 1)[..., None]
    thin = (0.15 * _WHITE + 0.85 * colour) * (1 - 0.45 * rim)
    return np.concatenate([np.clip(thin, 0, 1), run[..., 3:]], axis=2).astype(np.float32)


def _tubes(glyph: np.ndarray) -> np.ndarray:
    """Bend glowing tubes along the edges."""
    unit = glyph.shape[0] / _UNITS
    alpha = glyph[..., 3]
    bright = glyph[..., :3] / np.maximum(glyph[..., :3].max(2, keepdims=True), 0.15)
    vivid = np.clip(bright - 0.55 * bright.min(2, keepdims=True), 0, 1)
    vivid = np.clip(vivid / np.maximum(vivid.max(2, keepdims=True), 0.15), 0, 1)  # [g, g, 3]
    planes = [alpha, *(glyph[..., i] * alpha for i in range(3))]
    tube = np.clip(np.max([_edges(plane) for plane in planes], axis=0) * 1.5, 0, 1)  # [g, g]
    near = alpha + 1e-3
    spread = np.stack([gaussian_filter(vivid[..., i] * near, 1.5 * unit) for i in range(3)], axis=2)
    colour = spread / np.maximum(gaussian_filter(near, 1.5 * unit)[..., None], 1e-4)  # [g, g, 3]
    glow = 0.45 * gaussian_filter(tube, 1.6 * unit) + 0.12 * alpha
    light = np.clip(tube + glow, 0, 1)[..., None]
    return np.concatenate([np.clip(colour, 0, 1), light], axis=2).astype(np.float32)


STYLES = {
    "plain": Style("", (), _flat, _same, _smooth),
    "pencil": Style(
        "pencil sketch",
        ("in the manner of leonardo", "from a renaissance notebook", "in the manner of albrecht"),
        _paper,
        _pencil,
        _smooth,
    ),
    "mosaic": Style(
        "pixel mosaic",
        ("in the manner of theodora", "from a byzantine floor", "in the manner of the romans"),
        _flat,
        _tiles,
        _joints,
    ),
    "watercolour": Style(
        "watercolour",
        ("in the manner of turner", "from a victorian album", "in the manner of constable"),
        _wash,
        _brush,
        _smooth,
    ),
    "neon": Style(
        "neon sign",
        ("in the manner of zavo lumen", "from an electric boulevard", "in the manner of kiro volt"),
        _dark,
        _tubes,
        _smooth,
    ),
}
"""All styles by their keys, the plain one first."""

NAMED_STYLES = tuple(STYLES)[1:]
