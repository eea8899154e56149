"""The report's plot, and a font whichever Pillow there is."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image, ImageFont

from lib_gie.core.recorder import AttentionRecorder
from lib_gie.pictures import (
    Region,
    SheetRow,
    Span,
    contact_sheet,
    explained,
    overlay,
    region_map,
    step_maps,
    steps_sheet,
)
from lib_gie.pictures.fit_plot import scatter


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


def test_line_breaks_of_captions_stay():
    two, one = (contact_sheet(["0"], [SheetRow("a cat", note, [])]) for note in ("seed 0\nscale 1", "seed 0 scale 1"))
    bottom = [np.argwhere(np.asarray(sheet).min(2) < 200)[:, 0].max() for sheet in (two, one)]
    assert bottom[0] > bottom[1] + 10


def test_sheets_with_a_pillow_that_knows_no_sizes(monkeypatch):
    """The WebUI pins Pillow 9.5, whose default font comes in one size."""

    def load_default():
        raise AssertionError("a call without a size")

    before = contact_sheet(["0"], [SheetRow("a cat", "note", [])])
    monkeypatch.setattr(ImageFont, "load_default", load_default)
    after = contact_sheet(["0"], [SheetRow("a cat", "note", [])])
    assert after.size == before.size
    assert np.asarray(after).min() < 100  # something is written


def recorded(place: int, steps: int = 2, pixels: int = 64) -> AttentionRecorder:
    """Attention 0.5 at one pixel of a map, in the last step alone."""
    recorder = AttentionRecorder()
    for step in range(steps):
        recorder.begin_step()
        maps = torch.zeros(1, 2, pixels, 1)  # [rows, h, N, n]
        maps[:, :, place] = 0.5 * (step == steps - 1)
        recorder.add(0, ["row"], maps)
    return recorder


@pytest.mark.parametrize(("width", "height", "columns"), [(64, 64, 8), (128, 32, 16)])
def test_attention_is_where_it_was(width, height, columns):
    place = 3 * columns + 5
    found = region_map(recorded(place), 0, ["row"], Region(width, height))  # [H, W]
    y, x = np.unravel_index(found.argmax(), found.shape)
    cell = width // columns
    assert (y // cell, x // cell) == (3, 5)
    assert 0.1 < found.max() <= 0.3  # the mean of two steps


def test_attention_of_a_part_that_was_sampled_alone():
    region = Region(100, 80, (20, 10, 64, 64))
    found = region_map(recorded(0), 0, ["row"], region)  # [H, W]
    assert found.shape == (80, 100)
    assert found[:10].max() == found[:, :20].max() == found[74:].max() == 0
    y, x = np.unravel_index(found.argmax(), found.shape)
    assert (y - 10 < 8, x - 20 < 8) == (True, True)


def test_attention_step_by_step():
    steps = step_maps(recorded(9), 0, ["row"], Region(64, 64))
    assert list(steps) == [0, 1]
    assert steps[0].max() == 0 < steps[1].max()
    sheet = steps_sheet(Image.new("RGB", (64, 64), "white"), steps, "knife, scale -3")
    assert sheet.width >= 2 * 128


def test_overlay_and_legend():
    attention = np.full((64, 64), 0.1, dtype=np.float32)
    attention[:8, :8], attention[:, 60:] = 0.4, 0  # nothing was sampled at the right
    picture = np.asarray(overlay(Image.new("RGB", (64, 64), "white"), attention), dtype=int)  # [H, W, 3]
    assert picture[4, 4, 0] > picture[4, 4, 2] + 100
    assert picture[40, 40].tolist() == picture[40, 63].tolist() == [191, 191, 191]
    span = Span.of(attention)
    assert (span.grey, span.red) == pytest.approx((0.1, 0.4))
    half = np.asarray(overlay(Image.new("RGB", (64, 64), "white"), attention, Span(0.1, 0.7)), dtype=int)
    assert picture[4, 4, 1] < half[4, 4, 1] < 191
    legended = explained(Image.new("RGB", (64, 64), "white"), attention, "knife, scale -3")
    assert legended.height > legended.width >= 320


def test_faint_attention_stays_faint():
    """Where the concept is hardly there, its strongest place is not shown in full red."""
    attention = np.full((8, 8), 0.005, dtype=np.float32)
    picture = np.asarray(overlay(Image.new("RGB", (8, 8), "white"), attention), dtype=int)  # [H, W, 3]
    assert picture[..., 0].max() - picture[..., 2].min() < 20
