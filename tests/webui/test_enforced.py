"""A WebUI that was started with --gie-enforce knife: GIE_WEBUI_ENFORCED_URL is its address."""

from __future__ import annotations

import pytest
from client import SCALE, Answer, RequestFailedError


@pytest.fixture(scope="module")
def erased(webui) -> Answer:
    """What a user gets who asks for it."""
    return webui.txt2img(args=[True, "knife"])


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"args": [False, "knife"]},
        {"args": [True, "knife", "Fixed scale", 0, 0]},
        {"args": [True, "knife", "Fixed scale", 1, 0, 0.9, 1, "fused", "second only"]},
        {"override_settings": {"gie_enforced_concepts": "", "gie_enforced_strength": 0, "gie_enforced_scale": 0}},
        {"infotext": "a cat and a knife\nSteps: 8, Sampler: DPM++ 2M, Seed: 5, GIE concepts: dog, GIE strength: 0"},
    ],
)
def test_no_request_skips_it(enforced, erased, options):
    answer = enforced.txt2img(**options)
    assert answer == erased
    assert all("GIE enforced: knife" in text for text in answer.infotexts)


def test_options_cannot_be_set_through_the_api(enforced, erased):
    enforced.call("options", {"gie_enforced_concepts": "dog", "gie_enforced_strength": 3})
    assert enforced.txt2img() == erased
    assert enforced.call("options")["gie_enforced_concepts"] == ""


def test_img2img_hires_and_scripts(enforced, webui):
    hires = {"enable_hr": True, "hr_scale": 2, "denoising_strength": 0.7, "hr_upscaler": "Latent"}
    assert enforced.txt2img(**hires) == webui.txt2img(args=[True, "knife"], **hires)
    lines = [False, False, "start", "a cat and a knife"]
    answer = enforced.txt2img(script_name="prompts from file or textbox", script_args=lines)
    assert all("GIE enforced: knife" in text for text in answer.infotexts)


def test_a_users_concepts_come_on_top(enforced, erased):
    both = enforced.txt2img(args=[True, "cat", "Fixed scale", 1, SCALE])
    assert both != erased
    assert "GIE enforced: knife" in both.infotexts[0]
    assert "GIE concepts: cat" in both.infotexts[0]


def test_what_cannot_be_erased_from_is_no_image(enforced):
    with pytest.raises(RequestFailedError, match="CFG scale"):
        enforced.txt2img(cfg_scale=0.5)


def test_the_preview_of_the_negative_prompt_is_not_shown(enforced, erased):
    assert enforced.txt2img(override_settings={"live_preview_content": "Negative prompt"}) == erased
