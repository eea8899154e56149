"""A GPU's arithmetic gives the images that the processor's does, in each way of generating; it runs here on the CPU."""

from __future__ import annotations

import numpy as np
import pytest
from test_matrix import ATTENTION, OFF, ON, ROWS, _ask

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


@pytest.mark.parametrize("attention", ATTENTION)
def test_attention_optimisations(webui, few_kernels, attention):
    """Whatever computes the attention, what goes into W_o is the same."""
    expected = webui.txt2img(args=ON)
    option = "cross_attention_optimization"
    chosen = webui.call("options")[option]
    before = few_kernels()
    try:
        webui.call("options", {option: attention})
        found = webui.txt2img(args=ON)
    finally:
        webui.call("options", {option: chosen})
    assert few_kernels() > before
    assert np.abs(found.pixels.astype(int) - expected.pixels).max() <= 2
