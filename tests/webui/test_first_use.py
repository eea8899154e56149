"""Concepts that nothing ships for, calibrated when they are first to be erased."""

from __future__ import annotations

import base64
import io
import json
import threading
import time

import pytest
from client import CHECKPOINT, SCALE, RequestFailedError
from looking import seen
from PIL import Image

BANANA = [True, "banana", "Automatic"]
NAMED, IMPLIED, OTHER = "a banana and a house", "a picnic", "a cat and a car on a blue background"
SECONDS = 60
"""The issue's limit for a concept on a checkpoint that was just loaded, on two cores."""


def shown(answer) -> set[str]:
    return set().union(*(seen(image) for image in answer.images))


@pytest.fixture
def calibrating(webui):
    webui.get("gie-test/calibrations/forget")
    webui.get("gie-test/calibrates?wanted=true")
    yield webui
    webui.get("gie-test/calibrates?wanted=false")
    webui.get("gie-test/calibrations/forget")


@pytest.fixture
def calibrated(calibrating):
    calibrating.txt2img(NAMED, BANANA, steps=20)
    return calibrating


def test_an_unknown_concept_is_erased_at_once(calibrating):
    assert "banana" in shown(calibrating.txt2img(NAMED, steps=20))
    started = time.monotonic()
    answer = calibrating.txt2img(NAMED, BANANA, steps=20)
    assert time.monotonic() - started < SECONDS
    assert shown(answer) >= {"house"}
    assert "banana" not in shown(answer)
    assert len(calibrating.get("gie-test/calibrations/kept")) == 1
    assert "GIE adapter: banana-calibrated-" in answer.infotexts[0]


def test_the_next_image_needs_no_calibration(calibrated):
    def seconds(args) -> float:
        started = time.monotonic()
        calibrated.txt2img(NAMED, args, steps=20)
        return time.monotonic() - started

    assert min(seconds(BANANA) for _ in range(3)) < 2 * min(seconds(None) for _ in range(3))


def test_it_erases_where_the_prompt_only_implies_it(calibrated):
    before, after = calibrated.txt2img(IMPLIED, steps=20), calibrated.txt2img(IMPLIED, BANANA, steps=20)
    assert "banana" in shown(before)
    assert "banana" not in shown(after)


def test_other_prompts_stay_as_they_are(calibrated):
    before, after = calibrated.txt2img(OTHER, steps=20), calibrated.txt2img(OTHER, BANANA, steps=20)
    assert shown(before) == shown(after)


def test_its_infotext_makes_the_same_image(calibrated):
    answer = calibrated.txt2img(IMPLIED, BANANA, steps=20)
    assert calibrated.from_infotext(answer.infotexts[0]) == answer


def test_switched_off_it_takes_the_fixed_scale(webui):
    webui.get("gie-test/calibrations/forget")
    answer = webui.txt2img(NAMED, BANANA)
    assert "GIE adapter: Fixed scale" in answer.infotexts[0]
    assert not webui.get("gie-test/calibrations/kept")


@pytest.mark.parametrize(
    "args",
    [
        [True, "banana", "Fixed scale", 1, SCALE],
        [True, "knife", "Automatic"],
        {"args": [{"concepts": "banana", "adapter": "Fixed scale"}]},
        {"args": [{"concepts": "banana", "rule": "value projection"}]},
    ],
)
def test_it_is_not_calibrated_where_nothing_asks_for_it(calibrating, args):
    calibrating.txt2img(NAMED, args)
    assert not calibrating.get("gie-test/calibrations/kept")


def test_a_request_cannot_choose_what_it_is_calibrated_with(calibrating):
    """Options that a request overrides change what the UNet predicts; the calibration is the same without them."""
    calibrating.txt2img(NAMED, BANANA, override_settings={"token_merging_ratio": 0.9, "tiling": True})
    assert len(calibrating.get("gie-test/calibrations/kept")) == 1
    first = calibrating.txt2img(IMPLIED, BANANA, steps=20)
    calibrating.get("gie-test/calibrations/forget")
    calibrating.txt2img(NAMED, BANANA)
    assert calibrating.txt2img(IMPLIED, BANANA, steps=20) == first


def while_calibrating(webui, act, args=BANANA, **options):
    """The answer to a request during whose calibration something is done."""
    answers = []
    job = threading.Thread(target=lambda: answers.append(webui.txt2img(NAMED, args, steps=20, **options)))
    job.start()
    deadline = time.monotonic() + 30
    while "calibrating" not in str(webui.call("progress")["textinfo"]) and time.monotonic() < deadline:
        time.sleep(0.02)
    act()
    job.join(60)
    return answers[0]


def pressed_while_calibrating(webui, button: str):
    """The answer to a request whose calibration is cut short by this button."""
    return while_calibrating(webui, lambda: webui.call(button, {}))


def test_interrupted_it_makes_no_image_and_goes_on_the_next_time(calibrating):
    answer = pressed_while_calibrating(calibrating, "interrupt")
    assert not answer.images
    assert not calibrating.get("gie-test/calibrations/kept")
    assert "banana" not in shown(calibrating.txt2img(NAMED, BANANA, steps=20))


def test_skipped_it_goes_on_with_the_fixed_scale(calibrating):
    answer = pressed_while_calibrating(calibrating, "skip")
    assert "GIE adapter: Fixed scale" in answer.infotexts[0]
    assert "banana" not in shown(answer)


def test_it_belongs_to_its_checkpoint(calibrated):
    """Named by itself it is refused on another one; Automatic calibrates there anew."""
    (name,) = calibrated.get("gie-test/calibrations/kept")
    calibrated.use_checkpoint("other-demo")
    try:
        with pytest.raises(RequestFailedError, match="another checkpoint"):
            calibrated.txt2img(NAMED, [True, "banana", name])
        calibrated.txt2img(NAMED, BANANA)
        assert len(calibrated.get("gie-test/calibrations/kept")) == 2
    finally:
        calibrated.use_checkpoint(CHECKPOINT)


@pytest.mark.parametrize("name", ["tiny-sd2", "tiny-sdxl", "tiny-inpainting"])
def test_other_families_are_calibrated(calibrating, name):
    """Their UNets are random, so that only the work itself can be seen: velocity, sizes and masks are in it."""
    calibrating.use_checkpoint(name)
    calibrating.get("gie-test/calibrations/side?pixels=64")
    try:
        answer = calibrating.txt2img(NAMED, BANANA, steps=2)
        assert "GIE adapter: banana-calibrated-" in answer.infotexts[0]
        assert answer != calibrating.txt2img(NAMED, steps=2)
    finally:
        calibrating.get("gie-test/calibrations/side?pixels=0")
        calibrating.use_checkpoint(CHECKPOINT)


def test_a_refiner_is_another_checkpoint(calibrated):
    """What is known of the first says nothing of it, so it is erased from at the full strength."""
    refined = {"refiner_checkpoint": "other-demo", "refiner_switch_at": 0.5}
    answer = calibrated.txt2img(OTHER, BANANA, steps=8, **refined)
    assert "GIE adapter: banana-calibrated-" in answer.infotexts[0]


def test_where_tiling_changes_what_is_predicted_it_erases_in_full(calibrated):
    tiled = {"override_settings": {"tiling": True}, "steps": 20}
    answer = calibrated.txt2img(IMPLIED, BANANA, **tiled)
    (full,) = calibrated.get("gie-test/calibrations/strengths").values()
    assert f"GIE scale: {full:g}" in answer.infotexts[0]
    plain = calibrated.txt2img(OTHER, BANANA, steps=20)
    assert -0.5 < float(plain.infotexts[0].split("GIE scale: ")[1].split(",")[0]) <= 0


def test_token_merging_stays_as_the_first_image_has_it(calibrating):
    merged = {"override_settings": {"token_merging_ratio": 0.5}, "steps": 20, "width": 128, "height": 128}
    first = calibrating.txt2img(NAMED, BANANA, **merged)
    assert first == calibrating.txt2img(NAMED, BANANA, **merged)


@pytest.fixture
def inversion(calibrating):
    """Makes a textual inversion through the API, and takes all of them away afterwards."""
    names = set()

    def make(name: str, words: str = "picnic", vectors: int = 1) -> None:
        names.add(name)
        made = {"name": name, "num_vectors_per_token": vectors, "init_text": words, "overwrite_old": True}
        calibrating.call("create/embedding", made)
        calibrating.call("refresh-embeddings", {})

    yield make
    for name in names:
        (calibrating.folder / "embeddings" / f"{name}.pt").unlink()
    calibrating.call("refresh-embeddings", {})


def test_a_textual_inversion_cannot_spoil_it(calibrated, inversion):
    """One that is called like a word of the prompts that are read, made before or meanwhile, is not read."""
    made = calibrated.get("gie-test/calibrations/kept")
    for when in ("before", "meanwhile"):
        calibrated.get("gie-test/calibrations/forget")
        if when == "before":
            inversion("a")
            calibrated.txt2img(NAMED, BANANA)
        else:
            while_calibrating(calibrated, lambda: inversion("house"))
        assert calibrated.get("gie-test/calibrations/kept") == made


def test_options_that_are_set_meanwhile_change_nothing(calibrated):
    made = calibrated.get("gie-test/calibrations/kept")
    calibrated.get("gie-test/calibrations/forget")
    changes = {"CLIP_stop_at_last_layers": 3, "emphasis": "Ignore", "tiling": True, "token_merging_ratio": 0.7}
    usual = {"CLIP_stop_at_last_layers": 1, "emphasis": "Original", "tiling": False, "token_merging_ratio": 0}
    try:
        while_calibrating(calibrated, lambda: calibrated.call("options", changes))
        assert {name: calibrated.call("options")[name] for name in changes} == changes
    finally:
        calibrated.call("options", usual)
    calibrated.txt2img(NAMED, BANANA)
    assert calibrated.get("gie-test/calibrations/kept").items() >= made.items()


@pytest.mark.parametrize("concept", ["(banana:1.3)", "banana <lora:gierandom:1>", "[banana]", "banana BREAK banana"])
def test_what_is_syntax_in_a_prompt_is_words_in_a_concept(calibrating, concept):
    """Nothing is emphasised, and no network is put into the model: images of other prompts stay as they are."""
    plain = calibrating.txt2img(OTHER)
    calibrating.txt2img(NAMED, {"args": [{"concepts": f'"{concept}"'}]})
    assert len(calibrating.get("gie-test/calibrations/kept")) == 1
    assert calibrating.txt2img(OTHER) == plain


def test_a_textual_inversions_own_name_has_the_fixed_scale(calibrating, inversion):
    inversion("banana", "banana")
    answer = calibrating.txt2img(NAMED, BANANA)
    assert "GIE adapter: Fixed scale" in answer.infotexts[0]
    assert not calibrating.get("gie-test/calibrations/kept")


def in_prompt(webui, prompt: str, route: str = "txt2img", **options) -> float:
    """How present a calibration has found its concept to be in a prompt."""
    body = {
        "prompt": prompt, "steps": 4, "cfg_scale": 4, "width": 64, "height": 64, "seed": 5, **options,
        "alwayson_scripts": {"Growth Inhibitors": {"args": BANANA}},
    }  # fmt: skip
    told = json.loads(webui.call(route, body)["info"])["extra_generation_params"]["GIE read-out"]
    return told["0"][0]["in_prompt"]


def test_an_inpainting_models_picture_is_not_read(calibrating):
    """It was calibrated with txt2img's, so prompts are read with that one, whatever the user's shows."""
    calibrating.use_checkpoint("tiny-inpainting")
    calibrating.get("gie-test/calibrations/side?pixels=64")
    try:
        prompts = ["a picnic", "a cat and a car"]
        wanted = [in_prompt(calibrating, prompt) for prompt in prompts]
        for colour in ("red", "white"):
            picture = {"init_images": [encoded(colour)], "mask": encoded("white"), "denoising_strength": 0.9}
            found = [in_prompt(calibrating, prompt, "img2img", **picture) for prompt in prompts]
            assert found == pytest.approx(wanted, abs=1e-3)
    finally:
        calibrating.get("gie-test/calibrations/side?pixels=0")
        calibrating.use_checkpoint(CHECKPOINT)


def encoded(colour: str) -> str:
    """A picture of one colour."""
    buffer = io.BytesIO()
    Image.new("RGB", (64, 64), colour).save(buffer, format="PNG")
    return base64.b64encode(buffer.getvalue()).decode()
