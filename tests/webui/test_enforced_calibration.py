"""Enforced concepts that no adapter is there for: calibrated before the first image, and by no request's choice.

The settings enforce them here, so that no WebUI of its own is needed; what --gie-enforce names goes the same way.
"""

from __future__ import annotations

import json
import re
import threading

import not_run
import pytest
from client import CHECKPOINT, RequestFailedError
from test_first_use import IMPLIED, NAMED, OTHER, calibrating, inversion, shown, while_calibrating  # noqa: F401

CONCEPT = "banana"
KEPT = r"banana-calibrated-[0-9a-f]{8}"


@pytest.fixture
def enforcing(calibrating):  # noqa: F811
    """Nothing is calibrated yet, and users' concepts are not to be."""
    calibrating.get("gie-test/calibrates?wanted=false")
    calibrating.get(f"gie-test/enforces?concepts={CONCEPT}")
    yield calibrating
    calibrating.get("gie-test/enforces?concepts=")
    calibrating.get("gie-test/enforces/scale?wanted=false")
    calibrating.get("gie-test/enforces/calibrates?wanted=true")


@pytest.fixture
def calibrated(enforcing):
    """Calibrated, and the scale is told, so that it can be seen."""
    enforcing.txt2img(NAMED)
    enforcing.get("gie-test/enforces/scale?wanted=true")
    return enforcing


def kept(webui) -> dict[str, str]:
    return webui.get("gie-test/calibrations/kept")


def scale(answer) -> float:
    return float(re.search(r"GIE enforced scale: (-?[\d.]+)", answer.infotexts[0])[1])


def full(webui) -> float:
    """The strength where nothing is known of the prompt, times the factor for a prompt or model that is not plain."""
    return scale(webui.txt2img(OTHER, override_settings={"tiling": True}))


def test_it_is_gone_from_the_first_image_on(enforcing):
    answer = enforcing.txt2img(NAMED, steps=20)
    assert shown(answer) >= {"house"}
    assert "banana" not in shown(answer)
    assert "banana" not in shown(enforcing.txt2img(IMPLIED, steps=20))
    assert len(kept(enforcing)) == 1


def test_plain_prompts_without_it_stay_as_they_are(calibrated):
    erased = calibrated.txt2img(OTHER, steps=20)
    assert scale(erased) == 0
    calibrated.get("gie-test/enforces?concepts=")
    assert calibrated.txt2img(OTHER, steps=20) == erased


def test_users_are_told_nothing_of_it(enforcing):
    """Neither by the first image, which made it, nor by the next."""
    for _ in range(2):
        body = {"prompt": IMPLIED, "steps": 4, "cfg_scale": 4, "width": 64, "height": 64}
        info = enforcing.call("txt2img", body)["info"]
        told = json.loads(info)
        for text in told["infotexts"]:
            assert re.findall(r"GIE [^:]*: [^,\n]*", text) == ["GIE enforced: banana"]
        assert not re.search(KEPT, info)
        assert "calibrat" not in str(told.get("comments", ""))
        (entry,) = told["extra_generation_params"]["GIE read-out"]["0"]
        assert (entry["scale"], entry["present"], entry["in_prompt"]) == (None, None, None)
    assert CONCEPT not in str(enforcing.get("gie/v1/adapters")["adapters"])


def test_the_console_tells_the_admin(enforcing):
    """The log beside the WebUI's folder, where there is one."""
    log = enforcing.folder.parent / f"{enforcing.folder.name}.log"
    if not log.is_file():
        pytest.skip(not_run.WEBUI_CONSOLE)
    before = log.stat().st_size
    enforcing.txt2img(OTHER)
    enforcing.txt2img(OTHER, override_settings={"tiling": True})
    text = log.read_bytes()[before:].decode(errors="replace")
    assert "always erased: 'banana' was calibrated on this checkpoint" in text
    assert "weaker answer: the image is tiling" in text


def test_skip_does_not_stop_it(enforcing):
    answer = while_calibrating(enforcing, lambda: enforcing.call("skip", {}), args=None)
    assert len(kept(enforcing)) == 1
    assert len(answer.images) == 1
    assert "banana" not in shown(answer)


def test_interrupted_there_is_no_image_and_the_next_job_goes_on(enforcing):
    answer = while_calibrating(enforcing, lambda: enforcing.call("interrupt", {}), args=None)
    assert not answer.images
    assert not kept(enforcing)
    assert "banana" not in shown(enforcing.txt2img(NAMED, steps=20))
    assert len(kept(enforcing)) == 1


OVERRIDES = {
    "tiling": True, "token_merging_ratio": 0.9, "emphasis": "None", "sd_noise_schedule": "Zero Terminal SNR",
    "sdxl_crop_top": 500, "comma_padding_backtrack": 0, "gie_calibrate": False, "gie_enforced_concepts": "",
    "gie_enforced_scale": -0.25, "gie_enforced_show_scale": True,
}  # fmt: skip


USUAL = {"sd_noise_schedule": "Default", "sdxl_crop_top": 0, "comma_padding_backtrack": 20}
"""The WebUI puts back what a request has overridden only where it was set before."""


def test_no_request_has_a_say_in_it(calibrated, inversion):  # noqa: F811
    calibrated.call("options", USUAL)
    made = kept(calibrated)
    calibrated.get("gie-test/enforces/scale?wanted=false")
    calibrated.get("gie-test/calibrations/forget")
    answer = calibrated.txt2img(f"{NAMED} <lora:gierandom:2>", override_settings=OVERRIDES, cfg_scale=9, width=128)
    assert kept(calibrated) == made
    assert "GIE enforced scale" not in answer.infotexts[0]
    calibrated.get("gie-test/calibrations/forget")
    inversion("a", CONCEPT)
    inversion(CONCEPT, "dog", 3)
    calibrated.txt2img(NAMED)
    assert kept(calibrated) == made


def test_inversions_and_options_that_come_meanwhile_have_none(calibrated, inversion):  # noqa: F811
    made = kept(calibrated)
    calibrated.get("gie-test/calibrations/forget")

    def spoil():
        inversion("house", CONCEPT)
        for number in range(30):
            calibrated.call("options", {"CLIP_stop_at_last_layers": 1 + number % 3, "tiling": bool(number % 2)})
        calibrated.call("options", {"CLIP_stop_at_last_layers": 1, "tiling": False})

    while_calibrating(calibrated, spoil, args=None)
    assert kept(calibrated) == made


@pytest.mark.parametrize(
    ("options", "factors"),
    [
        ({"prompt": f"{OTHER} <lora:gierandom:0.01>"}, 1),
        ({"prompt": f"{OTHER} <hypernet:gietest:0.01>"}, 1),
        ({"override_settings": {"tiling": True}}, 1),
        ({"tiling": True}, 1),
        ({"override_settings": {"token_merging_ratio": 0.5}, "width": 128, "height": 128}, 2),  # and another size
        ({"prompt": " ".join([OTHER] * 12)}, 0),  # nobody knows what is in it, but it is plain
        ({"prompt": f"{OTHER} BREAK {OTHER}"}, 0),
    ],
)
def test_other_than_plain_prompts_get_the_full_strength(calibrated, options, factors):
    answer = calibrated.txt2img(**{"prompt": OTHER, **options})
    assert scale(answer) == full(calibrated) * 1.25 ** (factors - 1) <= -1  # the demo model's fixed scale
    assert scale(calibrated.txt2img(OTHER)) == 0


def test_a_textual_inversion_gets_the_full_strength(calibrated, inversion):  # noqa: F811
    inversion("gie-alias", "dog")
    assert scale(calibrated.txt2img(f"{OTHER} gie-alias")) == full(calibrated)


def test_hires_may_bring_networks_of_its_own(calibrated):
    hires = {"enable_hr": True, "hr_scale": 1, "denoising_strength": 0.9, "hr_upscaler": "Latent"}
    answer = calibrated.txt2img(OTHER, hr_prompt=f"{OTHER} <lora:gierandom:0.01>", **hires)
    assert scale(answer) == full(calibrated)


def test_a_picture_for_an_inpainting_model_gets_the_full_strength(enforcing):
    from test_first_use import encoded

    enforcing.use_checkpoint("tiny-inpainting")
    enforcing.get("gie-test/calibrations/side?pixels=64")
    enforcing.get("gie-test/enforces/scale?wanted=true")
    try:
        picture = {"init_images": [encoded("red")], "mask": encoded("white"), "denoising_strength": 0.9}
        answer = enforcing.txt2img(OTHER, route="img2img", **picture)
        assert scale(answer) == full(enforcing)
    finally:
        enforcing.get("gie-test/calibrations/side?pixels=0")
        enforcing.use_checkpoint(CHECKPOINT)


def test_users_cannot_ask_it_by_its_name(calibrated):
    (name,) = kept(calibrated)
    with pytest.raises(RequestFailedError, match="always erases"):
        calibrated.txt2img(OTHER, [True, "dog", name])


def test_switched_off_or_with_a_scale_of_the_admins_there_is_none(enforcing):
    enforcing.get("gie-test/enforces/calibrates?wanted=false")
    enforcing.get("gie-test/enforces/scale?wanted=true")
    assert scale(enforcing.txt2img(OTHER)) == -1  # the demo model's fixed scale
    assert not kept(enforcing)


def test_those_that_were_used_longest_ago_go_and_never_an_enforced_one(enforcing):
    enforcing.txt2img(NAMED)
    (always,) = kept(enforcing)
    enforcing.get("gie-test/calibrates?wanted=true")
    enforcing.get("gie-test/calibrations/most?count=2")
    try:
        for concept in ("picnic", "evening"):
            enforcing.txt2img(OTHER, [True, concept])
        assert [name.split("-")[0] for name in kept(enforcing)] == ["banana", "evening"]
        assert always in kept(enforcing)
    finally:
        enforcing.get("gie-test/calibrations/most?count=500")


def test_two_requests_at_once_make_one(enforcing):
    answers = []
    jobs = [threading.Thread(target=lambda: answers.append(enforcing.txt2img(NAMED, steps=20))) for _ in range(2)]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join(120)
    assert answers[0] == answers[1]
    assert len(kept(enforcing)) == 1
