"""Which rows are drawn, where knife is always erased: weights, CFG scales, rows left out, calls in another order.

Needs a WebUI that was started with --gie-enforce knife (GIE_WEBUI_ENFORCED_URL), and one that was not. Of each case 16
images are made; a knife may be left in one of them.
"""

from __future__ import annotations

import base64
import io
import threading
import time

import pytest
from client import RequestFailedError
from looking import seen
from test_sampling import WAYS

PROMPT = "a knife on a blue background"
IMAGES, ALLOWED = 16, 1
OPTIONS = {"steps": 20, "seed": 100, "scheduler": "Automatic", "batch_size": IMAGES}


def made(webui, prompt: str = PROMPT, **options):
    settings = options.pop("settings", {})
    return webui.txt2img(prompt, **{**OPTIONS, "override_settings": settings, **options})


def left(answer) -> int:
    """Images that show a knife."""
    return sum("knife" in seen(image) for image in answer.images[:IMAGES])


EARLY = {"skip_early_cond": 1.0}
NGMS = {"s_min_uncond_all": True, "s_min_uncond": 15.0}
REFUSED = {
    "a CFG scale below 0 turns the sign around": ({"prompt": "a knife :-1 AND a cat :0", "cfg_scale": -4}, "CFG scale"),
    "a CFG scale of 0": ({"cfg_scale": 0}, "CFG scale"),
    "a CFG scale of a half, twice": ({"prompt": "a knife :2", "cfg_scale": 0.5}, "CFG scale"),
    "the first part, hardly pushed away, Skip Early CFG": (
        {"prompt": "a knife :-0.001 AND a cat :0.05", "cfg_scale": 30, "settings": EARLY}, "first part",
    ),
    "the first part, hardly pushed away, NGMS": (
        {"prompt": "a knife :-0.001 AND a cat :0.05", "cfg_scale": 30, "settings": NGMS}, "first part",
    ),
    "the first part pushed away by what follows": (
        {"prompt": "a knife :1 AND a cat :2 AND a dog :3", "settings": EARLY}, "add up to 5",
    ),
    "a part of the same text that pushes the first away": (
        {"prompt": f"{PROMPT} :-0.0001 AND {PROMPT} :1.01"}, "first part",
    ),
    "the same the other way round": ({"prompt": f"{PROMPT} :0.1 AND {PROMPT} :-3 AND a cat :6"}, "put a part first"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_refused(enforced, case):
    options, says = REFUSED[case]
    with pytest.raises(RequestFailedError, match=says):
        made(enforced, **options)


ERASED = {
    "CFG scale 1": {"cfg_scale": 1},
    "the prompt is the negative prompt": {"negative_prompt": PROMPT},
    "hardly drawn, Skip Early CFG": {
        "prompt": "a knife :0.001 AND a cat :0.05", "cfg_scale": 30, "settings": EARLY,
    },
    "hardly drawn, NGMS": {"prompt": "a knife :0.001 AND a cat :0.05", "cfg_scale": 30, "settings": NGMS},
    "Skip Early CFG": {"settings": EARLY},
    "a part that pushes the same away a little": {"prompt": f"{PROMPT} :1.5 AND {PROMPT} :-0.3"},
    "one part pushed away": {"prompt": f"{PROMPT} :1.3 AND a cat :-0.3"},
    "the contrary pushed away": {"prompt": "a blue background :3 AND a (knife:-3) on a blue background :-2"},
    "the contrary as the negative prompt": {
        "prompt": "a blue background", "negative_prompt": "a (knife:-4)", "cfg_scale": 8,
    },
    "a part that is hardly drawn is the negative prompt": {
        "prompt": "a blue background AND (knife:3) :0.0001", "negative_prompt": "(knife:3)", "cfg_scale": 15,
    },
}  # fmt: skip


@pytest.mark.parametrize("case", ERASED)
def test_erased(enforced, case):
    assert left(made(enforced, **ERASED[case])) <= ALLOWED


@pytest.mark.parametrize("negative", ["", PROMPT])
@pytest.mark.parametrize("way", ["windows", "swapped", "one by one"])
def test_calls_in_another_order(enforced, way, negative):
    answer = made(enforced, negative_prompt=negative, scripts={WAYS: {"args": [way]}})
    assert left(answer) <= ALLOWED


def test_emphasis_changed_after_the_prompt_was_read(enforced):
    """The second pass draws what was encoded before the first, whatever the setting says by then."""
    hires = {"enable_hr": True, "hr_scale": 1, "hr_upscaler": "Latent", "denoising_strength": 0.95}
    changing = threading.Thread(target=_when_at, args=(enforced, 3, "options", {"emphasis": "Ignore"}))
    changing.start()
    try:
        answer = made(
            enforced, "a blue background", hr_prompt="<a :(knife:3)>", **hires,
            settings={"hires_fix_use_firstpass_conds": True},
        )  # fmt: skip
    finally:
        changing.join()
        enforced.call("options", {"emphasis": "Original"})
    assert left(answer) <= ALLOWED


def test_interrupted_requests_do_not_walk_to_it(enforced):
    """Each goes on from the picture that the one before had when it was stopped."""
    image = made(enforced, "a blue background", batch_size=1, steps=4).images[0]
    for number in range(9):
        options = {"batch_size": 1, "seed": number, "denoising_strength": 0.9, "init_images": [_encoded(image)]}
        stopping = threading.Thread(target=_when_at, args=(enforced, 5, "interrupt", {}))
        stopping.start()
        answer = made(enforced, route="img2img", **options)
        stopping.join()
        assert answer.images
        image = answer.images[0]
    assert "knife" not in seen(image)


def _encoded(image) -> str:
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def _when_at(webui, step: int, path: str, body: dict) -> None:
    """Ask this of the WebUI once the request that runs, or comes, is at this step."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        state = webui.call("progress?skip_current_image=true")["state"]
        if state["job_count"] > 0 and state["sampling_step"] >= step:
            webui.call(path, body)
            return
        time.sleep(0.02)
