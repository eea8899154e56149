"""The helper that looks at pictures of any size. It needs no WebUI."""

from __future__ import annotations

import numpy as np
import pytest
from looking import seen
from PIL import Image

from lib_gie.demo.world.scenes import BACKGROUNDS, draw, painted, paste


def picture(width: int, height: int, *corners: tuple[int, int]) -> Image.Image:
    """A blue picture with a knife, 32 pixels a side, at each corner (x, y)."""
    canvas = np.empty((height, width, 3), dtype=np.float32)
    canvas[:] = np.asarray(BACKGROUNDS["blue"], dtype=np.float32) / 255
    for corner in corners:
        paste(canvas, painted("plain", 32)["knife"], corner)
    return Image.fromarray(np.rint(canvas * 255).astype(np.uint8))


@pytest.mark.parametrize(
    ("size", "corner"),
    [((64, 64), (9, 5)), ((128, 128), (41, 23)), ((128, 96), (96, 64)), ((48, 48), (16, 16)), ((64, 32), (20, 0))],
)
def test_a_knife_anywhere(size, corner):
    assert seen(picture(*size, corner)) == {"knife"}
    assert seen(picture(*size)) == frozenset()


def test_styles_are_among_it():
    drawn = draw(("cat",), "red", "neon", [(16, 16)])
    assert seen(Image.fromarray(np.rint(drawn * 255).astype(np.uint8))) == {"cat", "neon sign"}
