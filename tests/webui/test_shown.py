"""What is shown of an erasure, and the kept composition, in each way of generating of ``test_matrix.py``."""

from __future__ import annotations

import json

import numpy as np
import pytest
from client import SCALE, Answer, RequestFailedError
from test_matrix import OFF, ON, ROWS, STRONGER, _ask, scales

KNIFE = {"concepts": "knife", "adapter": "Fixed scale", "scale": SCALE}
ADAPTIVE = "sampler DPM adaptive"
BEFORE, ATTENTION, KEEP = {"show_before": True}, {"show_attention": True}, {"keep_composition": True}
NO_SHARES = {"composition_cross": 0, "composition_self": 0}


def asked(*more: dict) -> list[dict]:
    return [{key: value for part in (KNIFE, *more) for key, value in part.items()}]


def results(answer: Answer, count: int) -> np.ndarray:
    """uint8 [count, H, W, 3] of the images themselves."""
    return np.stack([np.asarray(image.convert("RGB")) for image in answer.images[:count]])


def before(answer: Answer, count: int) -> np.ndarray:
    """uint8 [count, H, W, 3] of the images without erasure, which alone know of none."""
    found = [k for k, text in enumerate(answer.infotexts[: len(answer.images)]) if "GIE concepts" not in text]
    assert len(found) == count
    return np.stack([np.asarray(answer.images[k].convert("RGB")) for k in found])


@pytest.mark.parametrize("name", ROWS)
def test_what_it_would_have_been(webui, name):
    """It equals the image of the extension switched off, and changes nothing in the result."""
    off, on = _ask(webui, ROWS[name], OFF), _ask(webui, ROWS[name], ON)
    shown, count = _ask(webui, ROWS[name], asked(BEFORE)), len(on.images)
    assert np.array_equal(results(shown, count), on.pixels)
    assert np.array_equal(before(shown, count), off.pixels)
    assert len(shown.images) == 2 * count + 1
    assert scales(shown, count) == pytest.approx([SCALE * STRONGER.get(name, 1.0)] * count, rel=0.05)


@pytest.mark.parametrize("name", [name for name in ROWS if name != ADAPTIVE])
def test_kept_composition(webui, name):
    """It repeats, also beside the image without erasure; without shares it is plain erasure, to the bit."""
    row = ROWS[name]
    off, on, kept = _ask(webui, row, OFF), _ask(webui, row, ON), _ask(webui, row, asked(KEEP))
    assert not np.array_equal(kept.pixels, on.pixels)
    assert not np.array_equal(kept.pixels, off.pixels)
    assert all("GIE keep composition: True" in text for text in kept.infotexts)
    both = _ask(webui, row, asked(KEEP, BEFORE))
    assert np.array_equal(results(both, len(kept.images)), kept.pixels)
    assert np.array_equal(before(both, len(kept.images)), off.pixels)
    assert _ask(webui, row, asked(KEEP, NO_SHARES)) == on


def test_a_sampler_that_chooses_its_steps_is_refused(webui):
    expected = webui.txt2img(args=ON)
    with pytest.raises(RequestFailedError, match="composition of the image without erasure cannot be kept"):
        _ask(webui, ROWS[ADAPTIVE], asked(KEEP))
    assert webui.txt2img(args=ON) == expected


def test_attention(webui):
    """Per image and concept one over all steps and one step by step; the results stay as they are."""
    args = [{**KNIFE, "concepts": "knife, cat"}]
    plain = webui.txt2img(args=args, batch_size=2, n_iter=2)
    shown = webui.txt2img(args=[{**args[0], **ATTENTION}], batch_size=2, n_iter=2)
    assert np.array_equal(results(shown, 4), plain.pixels)
    assert len(shown.images) == 4 + 4 * 2 * 2 + 1
    assert all("GIE concepts" in text for text in shown.infotexts)


def test_an_infotext_brings_back_what_was_shown(webui):
    first = webui.txt2img(args=asked(KEEP, BEFORE, ATTENTION))
    again = webui.from_infotext(first.infotexts[0])
    assert len(again.images) == len(first.images) == 1 + 1 + 2 + 1
    for one, other in zip(first.images, again.images, strict=True):
        assert one.size == other.size
        assert np.array_equal(np.asarray(one), np.asarray(other))


def test_the_infotext_of_the_image_without_erasure_makes_it(webui):
    shown = webui.txt2img(args=asked(BEFORE))
    plain = next(text for text in shown.infotexts if "GIE" not in text)
    assert np.array_equal(webui.from_infotext(plain).pixels, before(shown, 1))


def test_the_read_out_is_in_the_answer(webui):
    body = {
        "prompt": "a cat and a knife", "steps": 8, "width": 64, "height": 64, "seed": 5, "batch_size": 2,
        "alwayson_scripts": {"Growth Inhibitors": {"args": asked()}},
    }  # fmt: skip
    found = json.loads(webui.call("txt2img", body)["info"])["extra_generation_params"]["GIE read-out"]
    assert [entry["concept"] for entries in found.values() for entry in entries] == ["knife", "knife"]
    assert all(entry["scale"] == SCALE for entries in found.values() for entry in entries)
    assert all(0 < entry["present"] <= 1 for entries in found.values() for entry in entries)


# -- what an admin always erases ------------------------------------------------


def test_nothing_without_the_enforced_erasure_is_shown(enforced):
    """Of the user's own concept everything is, but always without the enforced one."""
    plain = enforced.txt2img()
    cat = {"concepts": "cat", "adapter": "Fixed scale", "scale": SCALE}
    shown = enforced.txt2img(args=[{**cat, **BEFORE, **ATTENTION}])
    assert np.array_equal(before(shown, 1), plain.pixels)
    assert not np.array_equal(results(shown, 1), plain.pixels)
    assert len(shown.images) == 1 + 1 + 2 + 1
    assert all("GIE enforced: knife" in text for text in shown.infotexts)


def test_a_composition_of_an_enforced_image_is_kept(enforced):
    cat = {"concepts": "cat", "adapter": "Fixed scale", "scale": SCALE}
    plain, kept = enforced.txt2img(), enforced.txt2img(args=[{**cat, **KEEP}])
    assert kept != enforced.txt2img(args=[cat])
    assert kept == enforced.txt2img(args=[{**cat, **KEEP}])
    # without a scale the erased image is its twin, and that one is erased from as well
    assert enforced.txt2img(args=[{**cat, **KEEP, "strength": 0}]) == plain


@pytest.mark.parametrize("wish", [BEFORE, ATTENTION])
def test_who_erases_nothing_is_shown_nothing(enforced, wish):
    for args in ([{"enabled": False, "concepts": "knife", **wish}], None):
        assert len(enforced.txt2img(args=args).images) == 1
