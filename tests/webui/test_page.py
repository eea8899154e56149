"""The page in headless Chromium: tick, type, generate, read the infotext, paste it back, see an error."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from client import SCALE
from conftest import SCREENSHOTS
from PIL import Image

from lib_gie.hosts.webui.request.infotext import ALL_KEYS

CLEAR = 20  # a seed whose knife is plain to see
SEEN = (30, 385, 1371, 1440)  # of a screenshot, what webui.png shows


def test_off_by_default_and_explained(page):
    assert not page.checked()
    assert "separated by commas" in page.find("#gie_txt2img_concepts").get_attribute("title")
    page.fill("#txt2img_seed input", CLEAR)
    assert "GIE" not in page.generate()
    page.picture("without")


def test_tick_type_generate(page):
    page.set_enabled(True)
    page.fill("#gie_txt2img_concepts textarea", "knife")
    page.wait(lambda: "knife: 1/75" in page.text("#gie_txt2img_tokens"), "the concept's line")
    assert "adapter demo-knife" in page.text("#gie_txt2img_tokens")
    assert ": knife" in page.text("#gie_txt2img_enabled .label-wrap")
    infotext = page.generate()
    assert "GIE concepts: knife" in infotext
    assert "GIE scale: -" in infotext
    page.picture("with")
    _stack("without", "with")
    page.fill("#txt2img_seed input", 10)  # as the page begins with


def _stack(*names: str) -> None:
    """Put pictures below each other in webui.png, from the sampling settings down to the scripts."""
    if not SCREENSHOTS:
        return
    parts = [Image.open(Path(SCREENSHOTS, f"{name}.png")).convert("RGB").crop(SEEN) for name in names]
    parts = [part.crop((0, 0, part.width, _last_row(part) + 12)) for part in parts]
    paper = Image.new("RGB", (parts[0].width, sum(part.height for part in parts)), "white")
    for number, part in enumerate(parts):
        paper.paste(part, (0, sum(one.height for one in parts[:number])))
    paper.resize((3 * paper.width // 4, 3 * paper.height // 4)).save(Path(SCREENSHOTS, "webui.png"))


def _last_row(part: Image.Image) -> int:
    """Return the row at which the panel of settings ends: its right border, from the top, is one line of grey."""
    column = np.asarray(part)[:, -1].astype(int)  # [H, 3]
    return int(np.argmax(np.abs(column - column[0]).max(1) > 8)) or part.height


def test_the_infotext_under_the_image_gives_it_again(page):
    first, image = page.generate(), page.image()
    infotext = page.driver.execute_script("return document.querySelector('#html_info_txt2img').innerText")
    page.set_enabled(False)
    page.fill("#gie_txt2img_concepts textarea", "")
    assert "GIE" not in page.generate()
    assert page.image() != image
    page.fill("#txt2img_prompt textarea", infotext)
    page.click("#paste")
    page.wait(lambda: page.value("#gie_txt2img_concepts textarea") == "knife", "the pasted concept")
    assert page.checked()
    assert page.generate().split("Time taken")[0] == first.split("Time taken")[0]
    assert page.image() == image


SHOWN = ("keep_composition", "show_before", "show_attention")


def _ticked(page, name: str) -> bool:
    return page.driver.execute_script(
        "return document.querySelector(arguments[0]).checked", f"#gie_txt2img_{name} input"
    )


def test_what_is_shown(page):
    """The images beside the result, the read-out, and the infotext that brings all of it back."""
    plain = page.image()
    for name in SHOWN:
        page.click(f"#gie_txt2img_{name} input")
    page.fill("#gie_txt2img_composition_cross input[type=number]", 0.6)
    infotext = page.generate()
    assert "GIE keep composition: True" in infotext
    assert "GIE composition: 0.6 and 0.4" in infotext
    assert page.pictures() == 1 + 1 + 2 + 1
    kept = page.image()
    assert kept != plain
    page.wait(lambda: "knife" in page.text("#gie_txt2img_readout"), "the read-out")
    for part in ("10", "%", "-"):  # the seed, the attention and the scale
        assert part in page.text("#gie_txt2img_readout td:nth-child(1), #gie_txt2img_readout table")
    page.picture("shown-accordion", "#gie_txt2img_enabled")
    page.choose_picture(-1)
    page.picture("shown-sheet")
    text = page.driver.execute_script("return document.querySelector('#html_info_txt2img').innerText")
    for name in SHOWN:
        page.click(f"#gie_txt2img_{name} input")
    assert page.generate()
    assert page.image() == plain
    page.fill("#txt2img_prompt textarea", text)
    page.click("#paste")
    page.wait(lambda: all(_ticked(page, name) for name in SHOWN), "the pasted ticks")
    assert float(page.value("#gie_txt2img_composition_cross input[type=number]")) == 0.6
    assert page.generate().split("Time taken")[0] == infotext.split("Time taken")[0]
    assert page.image() == kept
    page.set_enabled(False)
    page.generate()
    page.wait(lambda: not page.text("#gie_txt2img_readout").strip(), "the read-out to go")
    page.set_enabled(True)
    for name in SHOWN:
        page.click(f"#gie_txt2img_{name} input")


def test_a_concept_that_is_too_long_is_named(page):
    page.fill("#gie_txt2img_concepts textarea", "fish, " + "knife " * 80)
    page.wait(lambda: "80/75 tokens (too long" in page.text("#gie_txt2img_tokens"), "the concept's line")
    assert "has 80 tokens" in page.generate()


def test_an_error_is_seen(page):
    page.set_enabled(True)
    page.fill("#gie_txt2img_concepts textarea", "")
    assert "the concept text is empty" in page.generate()


NOTICE = "#gie_txt2img_notice"
SETTINGS = (
    "a cat and a knife\nSteps: 8, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 4.0, Seed: 10, Size: 64x64"
)


def _paste(page, text: str) -> None:
    page.fill("#txt2img_prompt textarea", text)
    page.click("#paste")


def _notice_is_seen(page) -> bool:
    """In the accordion, or further down, nobody would read it."""
    notice, prompt = page.find(NOTICE), page.find("#txt2img_prompt")
    below = notice.location["y"] - prompt.location["y"] - prompt.size["height"]
    return notice.is_displayed() and -5 <= below < 200


def test_paste(page):
    """The infotext of an image, put into the prompt field and read by the arrow button, fills every field."""
    text = (
        "a dog and a knife\nSteps: 8, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 4.0, Seed: 9, Size: 64x64, "
        'GIE concepts: "knife, wine:0.5", GIE adapter: Fixed scale, GIE fixed scale: -2.5, GIE strength: 0.5, '
        "GIE steps: 0.1 to 0.8, GIE concept pass: separate, Version: 1.10.1"
    )
    page.fill("#txt2img_prompt textarea", text)
    page.click("#paste")
    page.wait(lambda: page.value("#gie_txt2img_concepts textarea") == "knife, wine:0.5", "the pasted concepts")
    assert page.checked()
    for name, value in (("strength", 0.5), ("scale", -2.5), ("start", 0.1), ("end", 0.8)):
        assert float(page.value(f"#gie_txt2img_{name} input[type=number]")) == value
    assert page.value("#gie_txt2img_concept_pass input") == "separate"
    assert page.value("#gie_txt2img_adapter input") == "Fixed scale"
    _paste(page, text.replace("GIE adapter: Fixed scale", "GIE adapter: gone [0123456789]"))
    page.wait(lambda: "cannot be read" in page.text(NOTICE), "the notice")


def test_paste_without_the_adapter_gives_the_recorded_scale_again(page, webui):
    """Of an emphasised prompt, too: what the scale has grown by is not multiplied once more."""
    made = webui.txt2img(args=[True, "knife", "demo-knife"], prompt="a (knife:1.5) on a blue background", steps=4)
    (infotext,) = made.infotexts
    scale = re.search(r"GIE scale: (-[\d.]+)", infotext)[1]
    assert float(scale) < SCALE
    renamed = re.sub(r"(GIE adapters?: )demo-knife \[\w+\]", r"\1gone [0123456789]", infotext)
    assert renamed != infotext
    _paste(page, renamed)
    page.wait(lambda: "filled in" in page.text(NOTICE), "the notice")
    assert page.value("#gie_txt2img_adapter input") == "Fixed scale"
    again = page.generate()
    assert "GIE adapter: Fixed scale" in again
    assert float(re.search(r"GIE scale: (-[\d.]+)", again)[1]) == pytest.approx(float(scale), abs=0.01)


def test_paste_of_a_plain_infotext_switches_it_off(page):
    page.set_enabled(True)
    page.fill("#txt2img_prompt textarea", "a dog\nSteps: 8, Sampler: DPM++ 2M, CFG scale: 4.0, Seed: 9, Size: 64x64")
    page.click("#paste")
    page.wait(lambda: not page.checked(), "the checkbox to go off")


UNREADABLE = {
    "GIE concepts: knife, GIE adapter: Fixed scale, GIE strength: abc": ("GIE strength", "knife"),
    "GIE concepts: knife, GIE adapter: Fixed scale, GIE steps: 0.2": ("GIE steps", "knife"),
    "GIE concepts: knife, wine:0.5, GIE adapter: Fixed scale": ("quotes around", "knife, wine:0.5"),
    "GIE concepts: knife, GIE scale rule: fixed -3, GIE start: 0": ("GIE scale rule", "knife"),
    "GIE concepts: knife, GIE adapter: Fixed scale\nTemplate: a cat": ("GIE concepts", "knife"),
    "GIE enforced: knife": ("always erases", "knife"),
}


@pytest.mark.parametrize(("entries", "wanted"), UNREADABLE.items())
def test_what_cannot_be_read_is_said_beside_the_prompt_and_erased_nevertheless(page, entries, wanted):
    says, concepts = wanted
    page.set_enabled(False)
    page.fill("#gie_txt2img_concepts textarea", "")
    _paste(page, f"{SETTINGS}, {entries}")
    page.wait(lambda: says in page.text(NOTICE), "the notice")
    assert page.checked()
    assert page.value("#gie_txt2img_concepts textarea") == concepts
    assert _notice_is_seen(page)
    page.picture("notice")
    page.fill("#txt2img_prompt textarea", "a cat and a knife")
    assert "GIE concepts" in page.generate()
    _paste(page, f"{SETTINGS}, GIE concepts: knife, GIE adapter: Fixed scale")
    page.wait(lambda: not page.text(NOTICE).strip(), "the notice to go")
    assert page.checked()


def test_lost_concepts_make_no_image(page):
    page.set_enabled(False)
    page.fill("#gie_txt2img_concepts textarea", "wine")
    _paste(page, f"{SETTINGS}, GIE concepts: [object Object], GIE adapter: Fixed scale")
    page.wait(lambda: "a site has lost" in page.text(NOTICE), "the notice")
    assert page.checked()
    assert page.value("#gie_txt2img_concepts textarea") == ""
    assert "the concept text is empty" in page.generate()


@pytest.mark.parametrize("on", [True, False])
def test_what_is_disregarded_stays(page, webui, on):
    webui.call("options", {"infotext_skip_pasting": list(ALL_KEYS)})
    try:
        page.fill("#gie_txt2img_concepts textarea", "wine")
        page.set_enabled(on)
        _paste(page, f"{SETTINGS.replace('Seed: 10', 'Seed: 77')}, GIE concepts: knife, GIE strength: 0.5")
        page.wait(lambda: page.value("#txt2img_seed input") == "77", "the pasted seed")
        assert page.checked() == on
        assert page.value("#gie_txt2img_concepts textarea") == "wine"
        assert page.value("#gie_txt2img_strength input[type=number]") == "1"
        page.wait(lambda: not page.text(NOTICE).strip(), "gradio's own word on the pasting to go, and nothing of ours")
    finally:
        webui.call("options", {"infotext_skip_pasting": []})


def test_reload_ui(page, webui):
    """The scripts are loaded anew: one set of hooks, one set of axes, the same image."""
    args = [True, "knife", "Fixed scale", 1, SCALE]
    erased, plain = webui.txt2img(args=args), webui.txt2img()
    page.reload_ui()
    assert webui.txt2img(args=args) == erased
    assert webui.txt2img() == plain
    info = next(script for script in webui.call("script-info") if script["name"] == "x/y/z plot")
    axes = next(arg for arg in info["args"] if arg["label"] == "X type")["choices"]
    assert len([axis for axis in axes if axis == "[GIE] Scale"]) == 1
