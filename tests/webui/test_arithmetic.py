"""A GPU's arithmetic gives the images that the processor's does, in each way of generating; it runs here on the CPU."""

from __future__ import annotations

import numpy as np
import pytest
from test_matrix import OFF, ON, ROWS, _ask

SHARE = 0.1
"""How far the images may be from each other, as a share of how far erasure takes them from those without it."""

SENSITIVE = {"sampler DPM adaptive": 0.5}
"""Ways in which rounding decides about steps, and so about more."""


@pytest.fixture
def few_kernels(webui):
    """Have a GPU's arithmetic used within a test; it returns how many terms were added so."""
    yield lambda: webui.get("gie-test/few-kernels?wanted=true")
    webui.get("gie-test/few-kernels?wanted=false")


@pytest.mark.parametrize("name", ROWS)
def test_the_images_are_the_same(webui, few_kernels, name):
    row = ROWS[name]
    off, on = (_ask(webui, row, args) for args in (OFF, ON))
    before = few_kernels()
    found = _ask(webui, row, ON)
    assert few_kernels() > before
    assert found.infotexts == on.infotexts
    moved, apart = (np.abs(one.pixels.astype(float) - on.pixels).mean() for one in (off, found))
    assert moved > 0
    assert apart <= SENSITIVE.get(name, SHARE) * moved
