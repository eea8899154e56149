"""Value projection in the real WebUI: every way of sampling, its infotext, and what becomes of the object."""

from __future__ import annotations

import numpy as np
import pytest
from client import RequestFailedError
from looking import seen
from test_matrix import ATTENTION, OFF, ROWS, _ask, settings

RULE = "value projection"
ON = [{"concepts": "knife", "rule": RULE}]
ZERO = [{"concepts": "knife", "rule": RULE, "strength": 0}]
KNIFE = "a knife on a blue background"


@pytest.mark.parametrize("name", ROWS)
def test_row(webui, name):
    """Scale 0 equals off to the bit, on differs and repeats, and emphasis does not change the scale."""
    row = ROWS[name]
    off, on = _ask(webui, row, OFF), _ask(webui, row, ON)
    assert _ask(webui, row, ZERO) == off
    assert not np.array_equal(on.pixels, off.pixels)
    assert _ask(webui, row, ON) == on
    assert all("GIE rule: value projection" in text and "GIE scale: -1," in f"{text}," for text in on.infotexts)


@pytest.mark.parametrize("optimization", ATTENTION)
def test_any_attention_optimisation(webui, optimization):
    """The term is computed apart, so the images are the same but for rounding."""
    row = settings(cross_attention_optimization=optimization)
    found, usual = _ask(webui, row, ON), _ask(webui, {}, ON)
    assert np.abs(found.pixels.astype(int) - usual.pixels).mean() < 1


def test_a_named_knife_is_gone(webui):
    asked = {"prompt": KNIFE, "batch_size": 8, "steps": 20}
    before, after = webui.txt2img(**asked), webui.txt2img(**asked, args=ON)
    left = [sum("knife" in seen(image) for image in answer.images[:8]) for answer in (before, after)]
    assert left[0] >= 6
    assert left[1] == 0


def test_an_infotext_gives_the_same_image(webui):
    first = webui.txt2img(args=[{"concepts": "knife, wine:0.5", "rule": RULE, "strength": 0.7, "start": 0.1}])
    assert "GIE rule: value projection" in first.infotexts[0]
    again = webui.from_infotext(first.infotexts[0])
    assert again == first
    assert again.infotexts == first.infotexts


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"adapter": "gietest"}, "adapters are fitted on growth inhibitors"),
        ({"concept_pass": "separate"}, "which has no concept pass"),
        ({"rule": "projection"}, "must be one of 'growth inhibitors', 'value projection'"),
    ],
)
def test_what_does_not_go_together_ends_the_request(webui, more, message):
    with pytest.raises(RequestFailedError, match=message) as failure:
        webui.txt2img(args=[{"concepts": "knife", "rule": RULE, **more}])
    assert failure.value.code == 422


@pytest.mark.parametrize("more", [{"keep_composition": True}, {"show_before": True}, {"show_attention": True}])
def test_with_what_is_shown_and_kept(webui, more):
    answer = webui.txt2img("a cat and a knife", args=[{"concepts": "knife", "rule": RULE, **more}])
    assert "GIE rule: value projection" in answer.infotexts[0]
    answer.images = answer.images[:1]  # those that are shown beside it have other sizes
    assert answer != webui.txt2img("a cat and a knife")


def test_beside_an_enforced_concept(enforced):
    """The admin's concept goes by growth inhibitors, the user's by value projection, in one step."""
    asked = {"prompt": "a knife and a fish on a blue background", "batch_size": 8, "steps": 20}
    alone = enforced.txt2img(**asked)
    both = enforced.txt2img(**asked, args=[{"concepts": "fish", "rule": RULE}])
    fish = [sum("fish" in seen(image) for image in answer.images[:8]) for answer in (alone, both)]
    assert fish[1] < fish[0]
    assert not any("knife" in seen(image) for image in both.images[:8])
    assert "GIE enforced: knife" in both.infotexts[0]
