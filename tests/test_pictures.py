"""The report's plot, and a font whichever Pillow there is."""

from __future__ import annotations

import numpy as np
from PIL import ImageFont

from lib_gie.pictures import Row, contact_sheet
from lib_gie.pictures.report import scatter


def test_the_plot_shows_both_parts():
    """A prompt kept for validation is drawn in red, and changes nothing else."""
    fitted = [(-1.0, -0.9, False), (0.0, 0.0, False)]
    without = np.asarray(scatter(fitted, "knife"), dtype=int)  # [H, W, 3]
    both = np.asarray(scatter([*fitted, (-0.5, -0.5, True)], "knife"), dtype=int)
    height, width, _ = both.shape
    middle = (slice(height // 3, height), slice(width // 4, width))  # without title and legend
    red = (both[..., 0] - both[..., 2] > 60)[middle]
    assert red.any()
    assert not ((without[..., 0] - without[..., 2] > 60)[middle]).any()
    assert scatter([]).size == scatter(fitted).size


def test_sheets_with_a_pillow_that_knows_no_sizes(monkeypatch):
    """The WebUI pins Pillow 9.5, whose default font comes in one size."""

    def load_default():
        raise AssertionError("a call without a size")

    before = contact_sheet(["0"], [Row("a cat", "note", [])])
    monkeypatch.setattr(ImageFont, "load_default", load_default)
    after = contact_sheet(["0"], [Row("a cat", "note", [])])
    assert after.size == before.size
    assert np.asarray(after).min() < 100  # something is written
