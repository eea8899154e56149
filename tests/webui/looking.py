"""What pictures from a WebUI show to the demo world's detector, whatever their size."""

from __future__ import annotations

import numpy as np
from PIL import Image

from lib_gie.demo.world.detector import GLYPH, SEEN_SIZE, look_at_picture


def seen(picture: Image.Image) -> frozenset[str]:
    """Return the objects, and the styles by their names, that a picture shows at any place.

    The demo model draws objects of one size in pixels, and the detector looks at 64 pixels a side. So a larger picture
    is looked at piece by piece, and a smaller one is first continued beyond its edges.
    """
    pixels = np.asarray(picture.convert("RGB"))  # [H, W, 3]
    missing = [(0, max(0, SEEN_SIZE - side)) for side in pixels.shape[:2]]
    pixels = np.pad(pixels, (*missing, (0, 0)), "edge")
    rows, columns = map(_corners, pixels.shape[:2])
    pieces = [pixels[y : y + SEEN_SIZE, x : x + SEEN_SIZE] for y in rows for x in columns]  # [64, 64, 3] each
    return frozenset().union(*(look_at_picture(Image.fromarray(piece)).shown for piece in pieces))


def _corners(side: int) -> list[int]:
    """Return where pieces begin, so that every object is whole in one of them."""
    last = side - SEEN_SIZE
    return sorted({*range(0, last, SEEN_SIZE - GLYPH), last})
