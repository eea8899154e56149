"""Ways in which other extensions touch the sampling: each is erased from, or the request fails by name.

The extension in ``tests/webui/extension`` plays them (``gie_test_sampling.py``).
"""

from __future__ import annotations

import numpy as np
import pytest
from client import RequestFailedError
from test_matrix import OFF, ON, ZERO

WAYS = "GIE test sampling"
ORDERS = ["windows", "swapped", "backwards", "one by one"]
PROMPT = {"prompt": "a knife on a blue background", "negative_prompt": "a dog", "batch_size": 4}


def made(webui, way: str, args, **options):
    """An image made in a way of the test extension."""
    return webui.txt2img(args=args, scripts={WAYS: {"args": [way]}}, **{**PROMPT, **options})


def levels(one, other) -> int:
    """The greatest difference of two answers' pixels."""
    return int(np.abs(one.pixels.astype(int) - other.pixels.astype(int)).max())


@pytest.mark.parametrize("negative", ["a dog", PROMPT["prompt"]])
@pytest.mark.parametrize("way", ORDERS)
def test_calls_of_rows_in_another_order(webui, way, negative):
    """Every image is that of the usual order, also where prompt and negative prompt cannot be told apart."""
    off, on, zero = (made(webui, way, args, negative_prompt=negative) for args in (OFF, ON, ZERO))
    usual_off, usual_on = (made(webui, "", args, negative_prompt=negative) for args in (OFF, ON))
    assert zero == off
    assert levels(off, usual_off) <= 2
    assert levels(on, usual_on) <= 2
    changed = np.abs(on.pixels.astype(int) - off.pixels).max((1, 2, 3))  # [images]
    assert changed.min() > 5, changed


@pytest.mark.parametrize("skipping", [{}, {"override_settings": {"skip_early_cond": 1.0}}])
@pytest.mark.parametrize("part", ["denoised", "after cfg"])
def test_more_calls_of_the_prompts_rows(webui, part, skipping):
    assert made(webui, f"calls, {part}", ON, **skipping) == made(webui, "", ON, **skipping)


def test_a_call_before_the_step_is_announced(webui):
    """The test extension's callback runs before this one's, so that nothing is known of the step yet."""
    with pytest.raises(RequestFailedError, match="no sampling step announced"):
        made(webui, "calls, denoiser", ON)


@pytest.mark.parametrize("part", ["denoised", "after cfg"])
@pytest.mark.parametrize("args", [ON, ZERO])
def test_more_calls_under_another_prompt_whose_error_is_swallowed(webui, part, args):
    with pytest.raises(RequestFailedError, match="a prompt that this step did not announce"):
        made(webui, f"calls, {part}, foreign", args)
    assert made(webui, f"calls, {part}, foreign", OFF) == made(webui, "", OFF)


def test_a_cfg_scale_that_is_changed_afterwards(webui):
    with pytest.raises(RequestFailedError, match="CFG scale"):
        made(webui, "weights", ON)


def test_an_inner_model_that_predicts_by_itself(webui):
    with pytest.raises(RequestFailedError, match="never reached the UNet's attention layers"):
        made(webui, "replaced", ON)
    assert made(webui, "", ON) == made(webui, "", ON)


@pytest.mark.parametrize("way", ["sample", "own sampling"])
def test_a_sampling_that_is_replaced(webui, way):
    assert made(webui, way, ON, n_iter=2) == made(webui, "", ON, n_iter=2)
    assert made(webui, way, ON) != made(webui, way, OFF)
