"""Requests through the API: arguments, errors, infotext, endpoints."""

from __future__ import annotations

import base64
import io
import json
import re
import threading
import time
from pathlib import Path

import not_run
import pytest
from client import SCALE, RequestFailedError
from conftest import SCREENSHOTS
from PIL import Image

ON = [True, "knife", "Fixed scale", 1, SCALE]


def test_a_dict_and_positions_are_the_same(webui):
    positional = webui.txt2img(args=ON)
    named = webui.txt2img(args=[{"concepts": "knife", "adapter": "Fixed scale", "scale": SCALE}])
    assert positional == named
    assert positional.infotexts == named.infotexts


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        ({"args": "knife"}, 422, "alwayson_scripts"),
        ({}, 422, "alwayson_scripts"),
        ({"arg": [True, "knife"]}, 422, "alwayson_scripts"),
        ([True], 422, "the concept text is empty"),
        ([True, " , "], 422, "names nothing"),
        ([True, "knife:x"], 422, "weight of 'knife'"),
        (["true", "knife"], 422, "must be true or false"),
        ([True, ["knife"]], 422, "must be a text"),
        ([True, "knife", "Automatic", "1"], 422, "number from 0 to 3"),
        ([True, "knife", "Automatic", 1, 2], 422, "number from -20 to 0"),
        ([True, "knife", "Automatic", 1, -3, 0.9, 0.1], 422, "start must be below end"),
        ([True, "knife", "Automatic", 1, -3, 0, 1, "double"], 422, "'fused', 'separate'"),
        ([True, "knife", "Automatic", 1, -3, 0, 1, "fused", "third"], 422, "'both', 'first only'"),
        ([True, "knife", "Automatic", 1, -3, 0, 1, "fused", "both", 1], 422, "keep_composition is 1; it must be true"),
        ([True, "knife", *[None] * 14], 422, "16 arguments were given"),
        ([{"concepts": "knife", "keep_composition": True, "composition_self": 2}], 422, "composition_self is 2"),
        ([{"concepts": "knife", "scales": 1}], 422, "unknown argument 'scales'"),
        ([True, "knife", "../gietest"], 422, "there is no adapter"),
        ([True, "knife", "missing"], 422, "there is no adapter"),
        ([True, "knife " * 80], 422, "has 80 tokens"),
        ([True, "\u201cknife"], 422, "quotes"),
        ([True, "x" * 4001], 422, "at most 4,000"),
        ([True, "x" * 1001], 422, "1,001 characters"),
        ([True, ",".join(map(str, range(65)))], 422, "at most 64"),
        ([True, "\ud83d"], 422, "half of a character"),
        ([True, "knife", "x" * 100_000], 422, "there is no adapter"),
        ([True, "knife", "\ud83d"], 422, "there is no adapter"),
        ([{"concepts": "knife", "x" * 100_000: 1}], 422, "unknown argument"),
    ],
)
def test_bad_arguments_end_the_request(webui, args, code, message):
    with pytest.raises(RequestFailedError, match=re.escape(message)) as failure:
        webui.txt2img(args=args)
    assert failure.value.code == code


def test_one_entry_for_the_script(webui):
    """Of two in different cases the last would have its way."""
    entries = {"Growth Inhibitors": {"args": ON}, "growth inhibitors": {"args": [False]}}
    with pytest.raises(RequestFailedError, match="2 times"):
        webui.txt2img(scripts=entries)


def test_null_is_the_default_of_a_dict(webui):
    named = {"concepts": "knife", "adapter": "Fixed scale", "scale": SCALE}
    assert webui.txt2img(args=[{**named, "enabled": None, "strength": None}]) == webui.txt2img(args=ON)


def test_a_bare_list_is_not_ignored(webui):
    body = {"prompt": "a knife", "steps": 2, "width": 64, "height": 64, "alwayson_scripts": {"growth inhibitors": ON}}
    with pytest.raises(RequestFailedError, match="alwayson_scripts"):
        webui.call("txt2img", body)


def test_after_a_failure_the_next_request_is_clean(webui):
    off, on = webui.txt2img(), webui.txt2img(args=ON)
    with pytest.raises(RequestFailedError):
        webui.txt2img(args=[True, "knife " * 80])
    assert webui.txt2img() == off
    assert webui.txt2img(args=ON) == on


@pytest.mark.parametrize(
    "args",
    [
        ON,
        [True, 'knife, "van ""gogh"", oil: x":1.5', "Fixed scale", 0.55, -2.25, 0.1, 0.85, "separate"],
        [True, "\U0001f52a, 512x512", "Fixed scale"],
        [True, "a\nb\uff0cc", "Automatic", 0.5],
        [True, "GIE concepts", "Fixed scale"],
        [True, "knife, balloon", "Automatic"],
        [True, "balloon", "gietest", 0.3],
        [{"concepts": "knife", "keep_composition": True}],
        [{"concepts": "knife", "keep_composition": True, "composition_cross": 0.5, "composition_self": 1}],
    ],
)
def test_an_infotext_gives_the_same_image(webui, args):
    first = webui.txt2img(args=args)
    again = webui.from_infotext(first.infotexts[0])
    assert again == first
    assert again.infotexts == first.infotexts


def test_an_infotext_without_erasure_switches_it_off(webui):
    plain = webui.txt2img()
    assert webui.from_infotext(plain.infotexts[0]) == plain


def test_an_infotext_with_a_missing_or_other_adapter(webui):
    first = webui.txt2img(args=[True, "balloon", "gietest"])
    text = first.infotexts[0]
    assert webui.from_infotext(text.replace("gietest [", "renamed [")) == first  # its weights are there
    with pytest.raises(RequestFailedError, match="is not installed here"):
        webui.from_infotext(re.sub(r"gietest \[\w{10}\]", "gone [0123456789]", text))
    with pytest.raises(RequestFailedError, match="is not this image's"):
        webui.from_infotext(re.sub(r"gietest \[\w{10}\]", "gietest [0123456789]", text))


def test_endpoints(webui):
    adapters = webui.get("gie/v1/adapters")
    assert any(adapter["name"] == "gietest" and adapter["base"] == "gie-demo" for adapter in adapters["adapters"])
    tokens = webui.get("gie/v1/tokens?concepts=van%20gogh,knife:0.5")
    assert [token["tokens"] for token in tokens] == [["van</w>", "gogh</w>"], ["knife</w>"]]
    with pytest.raises(RequestFailedError, match="quotes"):
        webui.get("gie/v1/tokens?concepts=%22open")
    schema = webui.get("openapi.json")["paths"]
    assert {"/gie/v1/adapters", "/gie/v1/tokens"} <= schema.keys()


def test_axes_of_the_xyz_plot(webui):
    info = next(script for script in webui.call("script-info") if script["name"] == "x/y/z plot")
    axes = next(arg for arg in info["args"] if arg["label"] == "X type")["choices"]
    wanted = [
        "Concepts to erase", "Adapter", "Strength", "Scale", "Start", "End", "Concept pass", "Hires. fix pass",
        "Keep composition", "Composition: prompt's attention", "Composition: self-attention",
        "Erasing rule",
    ]  # fmt: skip
    assert [axis for axis in axes if axis.startswith("[GIE]")] == [f"[GIE] {label}" for label in wanted]
    scale = axes.index("[GIE] Scale")
    args = [scale, "-1.5, -0.5, 0", [], 0, "", [], 0, "", [], True, False, False, False, False, False, False, 0, False]
    plot = webui.call(
        "txt2img",
        {
            "prompt": "a cat and a knife", "steps": 8, "cfg_scale": 4, "width": 64, "height": 64, "seed": 5,
            "sampler_name": "DPM++ 2M", "scheduler": "Karras", "script_name": "x/y/z plot", "script_args": args,
            "alwayson_scripts": {"Growth Inhibitors": {"args": [True, "knife", "Fixed scale"]}},
        },
    )  # fmt: skip
    if SCREENSHOTS:
        grid = Image.open(io.BytesIO(base64.b64decode(plot["images"][0])))
        grid.resize((4 * grid.width, 4 * grid.height)).save(Path(SCREENSHOTS, "xyz.png"))
    infotexts = json.loads(plot["info"])["infotexts"]
    assert any("GIE fixed scale: -1.5" in text for text in infotexts)
    assert any("GIE fixed scale: 0" in text for text in infotexts)


@pytest.mark.parametrize("how", ["interrupt", "skip"])
def test_stopped_requests_end_without_an_error(webui, how):
    answer = {}

    def ask():
        answer["images"] = webui.txt2img(args=ON, steps=150, width=128, height=128, n_iter=2).images

    thread = threading.Thread(target=ask)
    thread.start()
    time.sleep(1.5)
    webui.call(how, {})
    thread.join(240)
    assert answer["images"]
    assert webui.txt2img(args=ON) == webui.txt2img(args=ON)


def test_webuiapi_is_a_client(webui):
    webuiapi = pytest.importorskip("webuiapi", reason=not_run.WEBUIAPI)
    host, _, port = webui.url.rpartition("//")[2].partition(":")
    api = webuiapi.WebUIApi(host=host, port=int(port), sampler="DPM++ 2M", steps=8)
    result = api.txt2img(
        prompt="a cat and a knife", seed=5, cfg_scale=4, width=64, height=64, scheduler="Karras",
        alwayson_scripts={"Growth Inhibitors": {"args": [{"concepts": "knife"}]}},
    )  # fmt: skip
    assert "GIE concepts: knife" in result.info["infotexts"][0]


def test_it_does_not_slow_the_start(webui):
    start = webui.get("internal/profile-startup")
    if "import torch" not in start["records"]:
        pytest.skip(not_run.RELOADED_WEBUI)
    own = {name: seconds for name, seconds in start["records"].items() if "growth" in name}
    assert len(own) >= 1
    assert sum(own.values()) < 0.05 * start["total"], own
