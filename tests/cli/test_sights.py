"""How the commands say what the demo model's images show."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from lib_gie.cli.sights import shown_in
from lib_gie.demo.world.scenes import draw


def picture(objects: tuple[str, ...], style: str) -> Image.Image:
    drawn = draw(objects, "teal", style, [(0, 0), (32, 32)][: len(objects)])
    return Image.fromarray(np.rint(drawn * 255).astype(np.uint8))


@pytest.mark.parametrize(
    ("scenes", "said"),
    [
        ([(("knife", "cat"), "plain")], "cat, knife"),
        ([((), "plain")], "none"),
        ([(("knife", "cat"), "pencil")], "cat, knife; pencil sketch"),
        ([((), "neon")], "none; neon sign"),
        ([(("dog",), "neon"), (("cat",), "plain"), (("dog",), "pencil")], "cat, dog; neon sign, pencil sketch"),
        ([], "none"),
    ],
)
def test_objects_and_styles_in_one_line(scenes, said):
    shown = shown_in(picture(*scene) for scene in scenes)
    assert str(shown) == said
    assert not shown.objects & shown.styles
