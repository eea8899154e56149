"""Ways around the txt2img tab: host scripts, other extensions, swapped models. Each is erased from, or refused.

The extension in ``tests/webui/extension`` plays the other extensions; ``make_files.py`` puts it in place.
"""

from __future__ import annotations

import time

import numpy as np
import pytest
from client import SCALE, RequestFailedError
from test_matrix import IMG2IMG, OFF, ON, ZERO, settings

ROUTES = "GIE test routes"
PROMPT = "a cat and a knife"


def routed(webui, route: str, args, **options):
    """An image made along a route of the test extension."""
    titles = {script["name"] for script in webui.call("script-info")}
    assert ROUTES.lower() in titles, f"run python tests/webui/make_files.py {webui.folder} and restart the WebUI"
    return webui.txt2img(args=args, scripts={ROUTES: {"args": [route]}}, **options)


def test_a_nested_generation_without_scripts_is_erased_from(webui):
    off, on = routed(webui, "nested", OFF), routed(webui, "nested", ON)
    assert "GIE" not in off.infotexts[0]
    assert on.infotexts[0].count("GIE concepts: knife") == 2
    assert on.infotexts[0].count(f"GIE scale: {SCALE}") == 2
    assert on != off
    assert routed(webui, "nested", ON) == on
    assert webui.txt2img(args=ON) != webui.txt2img(args=OFF)


KEEP = [{"concepts": "knife", "adapter": "Fixed scale", "scale": SCALE, "keep_composition": True}]


@pytest.mark.parametrize("args", [OFF, ON, KEEP], ids=["off", "on", "composition"])
def test_a_nested_generation_by_a_function_that_another_extension_keeps(webui, args):
    """As ADetailer's is where ControlNet is installed, too."""
    assert routed(webui, "kept", args) == routed(webui, "nested", args)


def test_a_nested_generation_past_what_is_wrapped(webui):
    """It is erased from, but its infotext does not say so."""
    nested, past = routed(webui, "nested", ON), routed(webui, "past", ON)
    assert np.array_equal(past.pixels, nested.pixels)
    assert past.infotexts[0].count("GIE concepts: knife") == 1
    assert routed(webui, "past", OFF) == routed(webui, "nested", OFF)


def test_a_script_that_makes_images_past_what_is_wrapped(webui):
    assert webui.txt2img(args=OFF, script_name="GIE test past", script_args=[]) == webui.txt2img(args=OFF)
    with pytest.raises(RequestFailedError, match="past growth inhibitors"):
        webui.txt2img(args=ON, script_name="GIE test past", script_args=[])
    assert webui.txt2img(args=ON) == webui.txt2img(args=ON)


def test_a_script_that_makes_images_past_what_erases_an_enforced_concept(enforced):
    with pytest.raises(RequestFailedError, match="past growth inhibitors"):
        enforced.txt2img(args=OFF, script_name="GIE test past", script_args=[])


@pytest.mark.parametrize("route", ["nested", "kept"])
def test_the_generation_around_goes_on_erasing(webui, route):
    """The second and third batch are sampled after a nested generation has ended."""
    plain = webui.txt2img(args=ON, n_iter=3)
    nested = routed(webui, route, ON, n_iter=3)
    assert [text.count("GIE concepts") for text in nested.infotexts] == [2, 2, 2]
    assert nested != plain


def test_a_custom_unet_is_refused(webui):
    webui.call("options", {"sd_unet": "gietest"})
    try:
        assert webui.txt2img(args=OFF).images
        with pytest.raises(RequestFailedError, match="0 of the 16 cross-attention layers"):
            webui.txt2img(args=ON)
    finally:
        webui.call("options", {"sd_unet": "None"})
    assert webui.txt2img(args=ON) == webui.txt2img(args=ON)


def test_a_call_of_the_unet_outside_the_sampling(webui):
    """The WebUI swallows the error of the script that makes it; the request fails all the same."""
    with pytest.raises(RequestFailedError, match="no sampling step announced"):
        routed(webui, "outside", ON)
    assert routed(webui, "outside", OFF) == webui.txt2img(args=OFF)
    assert webui.txt2img(args=ON) == webui.txt2img(args=ON)


def test_a_defect_in_a_later_step_ends_the_request(webui):
    """Where the WebUI swallows exceptions, rows of the step before must not be used again."""
    expected = webui.txt2img(args=ON)
    with pytest.raises(RequestFailedError, match="a defect of the test's own"):
        routed(webui, "defect", ON)
    assert webui.txt2img(args=ON) == expected


def _script(webui, name: str, route: str, args, **values):
    """Ask for a script of the host, with its defaults but for ``values`` by position."""
    info = next(s for s in webui.call("script-info") if s["name"] == name and s["is_img2img"] == (route == "img2img"))
    given = [values.get(f"arg{number}", arg["value"]) for number, arg in enumerate(info["args"])]
    options = {**IMG2IMG} if route == "img2img" else {}
    return webui.txt2img(PROMPT, args, script_name=name, script_args=given, **options)


HOST_SCRIPTS = {
    "loopback": ("img2img", {"arg0": 2}),
    "sd upscale": ("img2img", {"arg1": 16, "arg2": "Lanczos", "arg3": 1.0}),
    "poor man's outpainting": ("img2img", {"arg0": 32, "arg2": 0, "arg3": ["left"]}),
    "outpainting mk2": ("img2img", {"arg1": 32, "arg3": ["left"]}),
    "prompt matrix": ("txt2img", {}),
    "prompts from file or textbox": ("txt2img", {"arg3": PROMPT}),
}


@pytest.mark.parametrize("name", HOST_SCRIPTS)
def test_scripts_of_the_host(webui, name):
    route, values = HOST_SCRIPTS[name]
    off, on = _script(webui, name, route, OFF, **values), _script(webui, name, route, ON, **values)
    assert "GIE" not in off.infotexts[0]
    assert "GIE concepts: knife" in on.infotexts[0]
    assert off.images[0].size == on.images[0].size  # the first one; grids have sizes of their own
    assert not np.array_equal(np.asarray(off.images[0]), np.asarray(on.images[0]))


def test_img2img_alternative_is_refused(webui):
    """It asks the UNet for an image's noise, with rows that nobody announces."""
    name, values = "img2img alternative test", {"arg3": PROMPT, "arg6": 6, "arg8": 4.0 + time.time() % 1}
    with pytest.raises(RequestFailedError, match="no sampling step announced"):
        _script(webui, name, "img2img", ON, **values)
    assert _script(webui, name, "img2img", OFF, **values).images


def test_refiner_whose_weights_replace_the_first_models_in_place(webui):
    """Two files with one .yaml are one model object to the WebUI."""
    webui.use_checkpoint("gie-inplace", "gie-inplace.safetensors")
    try:
        refiner = {"refiner_checkpoint": "gie-inplace.ckpt", "refiner_switch_at": 0.5}
        off, zero, on = (webui.txt2img(args=args, **refiner) for args in (OFF, ZERO, ON))
        assert off == zero != on
        assert webui.txt2img(args=ON, **refiner) == on
        assert webui.txt2img(args=ON) != on
        early = webui.txt2img(args=[*ON, 0, 0.5], **refiner)
        assert early != on
    finally:
        webui.use_checkpoint("gie-demo")


def test_another_vae(webui):
    expected = webui.txt2img(args=ON)
    webui.call("options", {"sd_vae": "gietest.safetensors"})
    try:
        assert webui.txt2img(args=OFF) == webui.txt2img(args=ZERO)
        assert webui.txt2img(args=ON) != expected
    finally:
        webui.call("options", {"sd_vae": "Automatic"})
    assert webui.txt2img(args=ON) == expected


def test_options_of_a_request_do_not_stay(webui):
    """The extension's own: a failing request leaves nothing behind in the settings."""
    before = webui.call("options")
    with pytest.raises(RequestFailedError):
        webui.txt2img(args=[True, "knife", "missing"], **settings(CLIP_stop_at_last_layers=1))
    after = webui.call("options")
    assert {k: v for k, v in after.items() if k.startswith("gie_")} == {
        k: v for k, v in before.items() if k.startswith("gie_")
    }
    assert after["live_preview_content"] == before["live_preview_content"]
