"""What the accordion says and how it is laid out, as far as no page is needed for it; tests/webui has the page."""

from __future__ import annotations

import html
import importlib
import json
import re
import sys
from types import SimpleNamespace

import pytest
import torch
from fake_host import Sampling
from test_webui_calibration import PRESENT, kept
from test_webui_glue import host  # noqa: F401  # a fixture

from lib_gie.core.scales.adapter import Adapter, AdapterInfo, save_adapter
from lib_gie.errors import ErasureError, OptionError
from lib_gie.hosts.webui.request.infotext import settings_line
from lib_gie.options import AUTOMATIC, FIXED, OPTIONS

KEY = "GIE read-out"


@pytest.fixture
def lines(host):  # noqa: F811
    """What the page's handler makes of the fields' values, as plain text."""
    made = importlib.import_module("lib_gie.hosts.webui.page.concept_lines").concept_lines

    def plain(*values) -> list[str]:
        shown = made(*values)
        found = re.findall(r"<li.*?</li>|<span class='gie-error'>.*?</span>", shown)
        return [html.unescape(re.sub("<.*?>", "", one)) for one in found]

    return plain


def told(done) -> str:
    """The JSON that the WebUI keeps of a generation."""
    params = {key: value for key, value in done.extra_generation_params.items() if key == KEY}
    texts = [settings_line({"Seed": seed, **text}) for seed, text in enumerate(done.infotexts)]
    return json.dumps({"extra_generation_params": params, "all_seeds": [0, 1], "infotexts": texts})


# -- the lines ------------------------------------------------


def test_each_concept_has_its_own_line(host, lines, tmp_path):  # noqa: F811
    name = kept(host, tmp_path, PRESENT, "wine")
    save_adapter(
        Adapter(AdapterInfo("width-24", 7, ("knife",), (-9.0, 0.0))), tmp_path / "growth-inhibitors/own.safetensors"
    )
    host.shared.opts.gie_calibrate = True
    assert lines("knife, wine, a red dog") == [
        "knife: 1/75 tokens · adapter own",
        f"wine: 1/75 tokens · calibration {name}",
        "a red dog: 3/75 tokens · calibration, which the first image makes",
    ]
    host.shared.opts.gie_calibrate = False
    assert lines("dog", AUTOMATIC) == ["dog: 1/75 tokens · fixed scale"]
    assert lines("knife", FIXED) == ["knife: 1/75 tokens · fixed scale"]
    assert lines("dog", "own") == ["dog: 1/75 tokens · adapter own"]
    assert lines("knife", AUTOMATIC, "value projection") == ["knife: 1/75 tokens · fixed scale"]


def test_a_line_says_what_the_image_gets(host, lines, tmp_path):  # noqa: F811
    """The infotext names what the line has promised."""
    kept(host, tmp_path, PRESENT, "wine")
    for adapter in (AUTOMATIC, FIXED):
        (line,) = lines("wine", adapter)
        _, done = host.process([True, "wine", adapter])
        assert line.split(" ")[-1] == done.infotexts[0]["GIE adapter"].split(" [")[0].split(" ")[-1]


def test_what_is_enforced_has_no_other_way(host, lines):  # noqa: F811
    host.shared.cmd_opts.gie_enforce = "knife"
    assert lines("knife, wine", FIXED) == [
        "knife: 1/75 tokens · always erased on this WebUI",
        "wine: 1/75 tokens · fixed scale",
    ]
    assert lines("knife") == ["knife: 1/75 tokens · always erased on this WebUI"]


def test_errors_come_before_an_image_is_asked_for(host, lines):  # noqa: F811
    (problem,) = lines("knife:x")
    assert problem.startswith("the weight of 'knife' is 'x'; it must be a number from 0 up")
    tokens, problem = lines("knife", "gone")
    assert tokens == "knife: 1/75 tokens"
    assert "gone" in problem
    assert lines("knife", 5) == ["knife: 1/75 tokens", "adapter is 5; it must be a text"]
    assert lines("word " * 76)[0].endswith("76/75 tokens (too long: shorten it)")


@pytest.mark.parametrize("text", ["", "  ", None, 5, ["knife"]])
def test_nothing_is_said_of_nothing(host, lines, text):  # noqa: F811
    assert lines(text) == []


def test_markup_stays_text(host):  # noqa: F811
    made = importlib.import_module("lib_gie.hosts.webui.page.concept_lines").concept_lines
    assert "<i>" not in made("<i>knife</i>", "<i>")


def test_after_a_generation_a_line_says_how_present_it_was(host, lines, tmp_path):  # noqa: F811
    readout = importlib.import_module("lib_gie.hosts.webui.shown.readout")
    kept(host, tmp_path, PRESENT, "wine")
    _, done = host.process([True, "knife, wine"], sampling=Sampling(parts=((1.0,),)))
    present = readout.presence_of(told(done))
    assert "last image: named or implied 100 %" in lines("wine", AUTOMATIC, None, present)[0]
    assert re.search(r"last image: attention to it up to \d+ %$", lines("Knife", AUTOMATIC, None, present)[0])
    assert "last" not in lines("dog", AUTOMATIC, None, present)[0]
    _, done = host.process([True, "knife"])
    assert "last images: attention to it up to" in lines("knife", FIXED, None, readout.presence_of(told(done)))[0]
    _, done = host.process([])
    assert readout.presence_of(told(done)) == {}


def test_how_present_what_is_enforced_was_stays_with_the_admin(host, lines):  # noqa: F811
    readout = importlib.import_module("lib_gie.hosts.webui.shown.readout")
    host.shared.cmd_opts.gie_enforce = "knife"
    _, done = host.process([])
    assert "last" not in lines("knife", FIXED, None, readout.presence_of(told(done)))[0]


# -- the layout ------------------------------------------------


def test_every_option_has_one_place(host):  # noqa: F811
    layout = importlib.import_module("lib_gie.hosts.webui.page.layout")
    placed = ["enabled", "concepts", *layout.SIMPLE, *(name for row in layout.ADVANCED for name in row)]
    assert sorted(placed) == sorted(option.name for option in OPTIONS)


def test_what_is_hidden_has_no_effect(host):  # noqa: F811
    """Whatever a hidden field holds, the image is the same, though the field is sent with the rest.

    "second only" is never hidden: without Hires. fix it ends the request.
    """
    layout = importlib.import_module("lib_gie.hosts.webui.page.layout")
    page = json.loads(html.unescape(re.search("data-page='(.*?)'", layout.page_data("txt2img"))[1]))
    assert sorted(page["conditions"]) == [
        f"gie_txt2img_{name}" for name in ("composition_cross", "composition_self", "hires", "scale")
    ]
    _, usual = host.process([{"concepts": "knife"}])
    others = {"scale": -9.0, "composition_cross": 0.1, "composition_self": 0.9, "hires": "first only"}
    _, hidden = host.process([{"concepts": "knife", **others}])
    with pytest.raises(ErasureError):
        host.process([{"concepts": "knife", "hires": page["conditions"]["gie_txt2img_hires"]["unless"]}])
    _, plain = host.process([])
    assert all(map(torch.equal, usual.images, hidden.images))
    assert not any(map(torch.equal, usual.images, plain.images))


def test_img2img_has_no_hires_pass(host):  # noqa: F811
    layout = importlib.import_module("lib_gie.hosts.webui.page.layout")
    assert [option.name for option in OPTIONS if layout.is_without_effect(option.name, True)] == ["hires"]
    assert not any(layout.is_without_effect(option.name, False) for option in OPTIONS)


# -- presets ------------------------------------------------


@pytest.fixture
def presets(host, monkeypatch):  # noqa: F811
    """The page's presets, and what gradio was told to warn of."""
    warned: list[str] = []
    monkeypatch.setitem(sys.modules, "gradio", SimpleNamespace(Warning=warned.append))
    return importlib.import_module("lib_gie.hosts.webui.page.presets"), warned


def test_the_setting_holds_the_presets(host, presets):  # noqa: F811
    module, warned = presets
    assert [one.name for one in module.offered_presets()] == ["nudity", "violence", "van gogh style", "knife"]
    host.shared.opts.gie_presets = "mine: wine"
    assert [one.name for one in module.offered_presets()] == ["mine"]
    module.check_setting()
    assert warned == []


def test_a_bad_line_is_told_and_raises(host, presets, capsys):  # noqa: F811
    """The WebUI puts the old value back where its callback raises."""
    module, warned = presets
    host.shared.opts.gie_presets = "mine: wine\nknife"
    with pytest.raises(OptionError):
        module.check_setting()
    assert warned == [
        "The presets stay as they were: line 2 of the presets is 'knife'; it must be a name, a colon and concepts, "
        "for example: nudity: nudity, naked"
    ]
    assert [one.name for one in module.offered_presets()] == ["nudity", "violence", "van gogh style", "knife"]
    assert "the setting gie_presets cannot be used" in capsys.readouterr().err


def test_a_host_may_have_its_own(host, presets, monkeypatch):  # noqa: F811
    module, _ = presets
    monkeypatch.setattr(type(module.HOST), "presets", "house: wine")
    assert [one.name for one in module.offered_presets()] == ["house"]


def test_a_page_that_is_built_anew_takes_the_place_of_the_one_before(host):  # noqa: F811
    """Also where the one before was never finished: a handler for what is gone ends the page's others."""
    readout = importlib.import_module("lib_gie.hosts.webui.shown.readout")
    filled = []

    class Component:
        def change(self, shown, given, outputs, **options):
            filled.extend(outputs)
            return SimpleNamespace(then=lambda *values, **options: None)

    for page in ("old", "new"):
        readout.add_holder("txt2img", f"{page} table")
        readout.refresh_afterwards("txt2img", readout.presence_of, [f"{page} presence"], "")
    readout.watch_results(Component(), "generation_info_txt2img")
    assert filled == ["new table", "new presence"]
