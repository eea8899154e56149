"""The accordion in headless Chromium: what is shown when, presets, the keyboard, three widths, what is kept."""

from __future__ import annotations

import json
import time
from contextlib import suppress

import pytest
from client import TITLE

from lib_gie.options import OPTIONS

with suppress(ImportError):  # without it the tests are collected and not run, see browser.py
    from selenium.webdriver import ActionChains
    from selenium.webdriver.common.keys import Keys

ACCORDION, ADVANCED = "#gie_txt2img_enabled", "#gie_txt2img_advanced"
CONCEPTS = "#gie_txt2img_concepts textarea"
WIDTHS = (1920, 1280, 400)


def field(name: str) -> str:
    return f"#gie_txt2img_{name}"


@pytest.fixture
def fresh(page, webui):
    """The page as it is opened first, the accordion on: nothing is remembered."""
    page.driver.execute_script("localStorage.clear()")
    page.load(webui.url)
    page.set_enabled(True)
    return page


def open_advanced(page, wanted: bool = True) -> None:
    if page.is_shown(field("start")) != wanted:
        page.click(f"{ADVANCED} .label-wrap")
    page.wait(lambda: page.is_shown(field("start")) == wanted, "Advanced to open or close")


def set_hires(page, wanted: bool) -> None:
    box = "#txt2img_hr-visible-checkbox"
    if page.find(box).is_selected() != wanted:
        page.click(box)


# -- what is shown ------------------------------------------------


def test_at_first_it_shows_what_most_people_need(fresh):
    names = ["concepts", "presets", "strength", "adapter", "adapter_refresh", "advanced"]
    assert [name for name in names if not fresh.is_shown(field(name))] == []
    others = [option.name for option in OPTIONS if option.name not in ("enabled", *names)]
    assert len(others) == 11
    assert [name for name in others if fresh.is_shown(field(name))] == []
    assert fresh.text(f"{ACCORDION} .label-wrap > span").startswith("Erase concepts (Growth Inhibitors)")


def test_scale_goes_with_the_fixed_scale(fresh):
    fresh.choose(field("adapter"), "Fixed scale")
    fresh.wait(lambda: fresh.is_shown(field("scale")), "the scale")
    fresh.choose(field("adapter"), "Automatic")
    fresh.wait(lambda: not fresh.is_shown(field("scale")), "the scale to go")


def test_a_field_stays_while_one_types_to_find_an_entry(fresh):
    fresh.choose(field("adapter"), "Fixed scale")
    fresh.wait(lambda: fresh.is_shown(field("scale")), "the scale")
    entry = fresh.find(f"{field('adapter')} input")
    entry.click()
    entry.clear()
    entry.send_keys("demo")
    time.sleep(1)
    assert fresh.is_shown(field("scale"))
    entry.send_keys(Keys.ESCAPE)


def test_the_shares_go_with_keep_composition(fresh):
    open_advanced(fresh)
    shares = [field("composition_cross"), field("composition_self")]
    assert not any(map(fresh.is_shown, shares))
    fresh.click(f"{field('keep_composition')} input")
    fresh.wait(lambda: all(map(fresh.is_shown, shares)), "the shares")
    fresh.click(f"{field('keep_composition')} input")
    fresh.wait(lambda: not any(map(fresh.is_shown, shares)), "the shares to go")


def test_the_hires_pass_goes_with_hires_fix(fresh):
    open_advanced(fresh)
    assert not fresh.is_shown(field("hires"))
    set_hires(fresh, True)
    fresh.wait(lambda: fresh.is_shown(field("hires")), "the pass")
    set_hires(fresh, False)
    fresh.wait(lambda: not fresh.is_shown(field("hires")), "the pass to go")


def test_a_pass_that_is_not_made_is_not_out_of_sight(fresh):
    """Without Hires. fix "second only" erases nothing, so the request is refused: the field that says so is there."""
    open_advanced(fresh)
    set_hires(fresh, True)
    fresh.choose(field("hires"), "second only")
    set_hires(fresh, False)
    time.sleep(1)
    assert fresh.is_shown(field("hires"))
    assert fresh.text(f"{ADVANCED} .gie-header") == ": Hires. fix pass second only"
    fresh.choose(field("hires"), "first only")
    fresh.wait(lambda: not fresh.is_shown(field("hires")), "the pass to go")
    fresh.wait(lambda: fresh.text(f"{ADVANCED} .gie-header") == "", "the header to be empty")


def test_img2img_shows_no_hires_pass(fresh):
    """It is there, because the arguments are in one order everywhere, and has nothing to say in this tab."""
    hidden = "return getComputedStyle(document.querySelector(arguments[0])).display"
    assert fresh.driver.execute_script(hidden, "#gie_img2img_hires") == "none"
    assert fresh.driver.execute_script(hidden, "#gie_img2img_rule") != "none"


def test_advanced_stays_as_it_was_left(fresh, webui):
    for is_open in (True, False):
        open_advanced(fresh, is_open)
        fresh.load(webui.url)
        fresh.set_enabled(True)
        time.sleep(1)
        assert fresh.is_shown(field("start")) == is_open


def test_the_header_of_advanced_names_what_is_set_there(fresh):
    assert fresh.text(f"{ADVANCED} .gie-header") == ""
    fresh.fill(f"{field('end')} input[type=number]", 0.8)
    fresh.fill(f"{field('composition_cross')} input[type=number]", 0.5)
    fresh.wait(lambda: fresh.text(f"{ADVANCED} .gie-header") == ": End 0.8", "the name")
    fresh.click(f"{field('keep_composition')} input")
    wanted = ": End 0.8, Keep composition, Composition: prompt's attention 0.5"
    fresh.wait(lambda: fresh.text(f"{ADVANCED} .gie-header") == wanted, "the names")


# -- the lines of the concepts ------------------------------------------------


def line_of(page, concept: str) -> str:
    texts = "return [...document.querySelectorAll(arguments[0])].map(item => item.innerText)"
    found = page.driver.execute_script(texts, f"{field('tokens')} li")  # at once: the lines are made anew all the time
    return next((text for text in found if text.startswith(f"{concept}:")), "")


def test_each_concept_has_a_line(fresh):
    fresh.fill(CONCEPTS, "knife, wine")
    fresh.wait(lambda: line_of(fresh, "knife") == "knife: 1/75 tokens · adapter demo-knife", "the knife's line")
    fresh.choose(field("adapter"), "Fixed scale")
    fresh.wait(lambda: line_of(fresh, "wine") == "wine: 1/75 tokens · fixed scale", "the wine's line")
    fresh.choose(field("adapter"), "Automatic")
    fresh.fill("#txt2img_prompt textarea", "a cat and a knife")
    small(fresh)
    fresh.generate()
    fresh.wait(lambda: "last image: named or implied 100 %" in line_of(fresh, "knife"), "the presence")
    fresh.fill(CONCEPTS, "knife")
    fresh.wait(lambda: not line_of(fresh, "wine"), "the line to go")
    assert "last image: named or implied 100 %" in line_of(fresh, "knife")


def test_the_line_is_current_while_the_server_is_slow(fresh):
    """gradio drops what happens to a field while a handler is at work."""
    fresh.driver.execute_script(SLOW, 1500)
    fresh.fill(CONCEPTS, "knife")
    time.sleep(0.6)
    fresh.fill(CONCEPTS, "wine")
    fresh.wait(lambda: line_of(fresh, "wine"), "the line of what is typed now")
    assert not line_of(fresh, "knife")


SLOW = """
    const [milliseconds] = arguments, inner = window.fetch;
    window.fetch = (...given) => new Promise(done => setTimeout(done, milliseconds)).then(() => inner(...given));
"""


def small(page) -> None:
    for name, value in (("steps", 8), ("width", 64), ("height", 64), ("cfg_scale", 4)):
        page.fill(f"#txt2img_{name} input[type=number]", value)
    page.fill("#txt2img_seed input", 10)


# -- presets ------------------------------------------------


def press_preset(page, name: str) -> None:
    buttons = page.driver.find_elements("css selector", f"{field('presets')} button")
    next(button for button in buttons if button.text == name).click()


def test_a_preset_is_one_click(fresh):
    press_preset(fresh, "nudity")
    fresh.wait(lambda: fresh.value(CONCEPTS) == "nudity, naked", "the concepts")
    fresh.wait(lambda: ": nudity, naked" in fresh.text(f"{ACCORDION} .label-wrap"), "the header")
    fresh.wait(lambda: line_of(fresh, "naked"), "the lines")
    press_preset(fresh, "knife")
    fresh.wait(lambda: fresh.value(CONCEPTS) == "nudity, naked, knife", "what was added")
    press_preset(fresh, "nudity")
    time.sleep(1)
    assert fresh.value(CONCEPTS) == "nudity, naked, knife"


SETTING = "#setting_gie_presets textarea"


def apply_presets(page, text: str) -> None:
    page.fill(SETTING, text)
    page.click("#settings_submit")


def popped_up(page) -> str:
    """What the page's messages say, which go by themselves."""
    return page.driver.execute_script(
        "return [...document.querySelectorAll('[class*=toast-body]')].map(one => one.textContent).join()"
    )


def presets_are(webui, text: str) -> bool:
    return webui.call("options")["gie_presets"] == text


def test_bad_presets_are_told_and_change_nothing(fresh, webui):
    before = webui.call("options")["gie_presets"]
    apply_presets(fresh, "mine: wine\nknife")
    said = "The presets stay as they were: line 2 of the presets is 'knife'; it must be a name, a colon and concepts"
    fresh.wait(lambda: said in popped_up(fresh), "the message")
    fresh.picture("presets-refused", "#settings_result")
    fresh.wait(lambda: "settings changed" in fresh.text("#settings_result"), "the answer")
    assert "gie_presets" not in fresh.text("#settings_result")
    assert presets_are(webui, before)


def saved_keys(webui) -> dict:
    return json.loads((webui.folder / "ui-config.json").read_text(encoding="utf-8"))


def test_reload_ui_brings_other_presets_and_saved_defaults(fresh, webui):
    """Defaults that were saved before the fields had their places, which the WebUI has by their labels."""
    before, file = webui.call("options")["gie_presets"], webui.folder / "ui-config.json"
    text, key = file.read_text(encoding="utf-8"), "customscript/growth_inhibitors.py/txt2img"
    changes = {"End": 0.8, "Keep composition": True, TITLE: True}
    try:
        apply_presets(fresh, "drinks: wine, beer:0.5")
        fresh.wait(lambda: presets_are(webui, "drinks: wine, beer:0.5"), "the presets to be kept")
        kept = {**json.loads(text), **{f"{key}/{label}/value": value for label, value in changes.items()}}
        file.write_text(json.dumps(kept), encoding="utf-8")
        fresh.reload_ui()
        fresh.load(webui.url)
        assert fresh.checked()
        assert fresh.is_shown(CONCEPTS)
        assert fresh.value(f"{field('end')} input[type=number]") == "0.8"
        assert fresh.text(f"{ADVANCED} .gie-header") == ": End 0.8, Keep composition"
        open_advanced(fresh)
        assert fresh.is_shown(field("composition_self"))
        press_preset(fresh, "drinks")
        fresh.wait(lambda: fresh.value(CONCEPTS) == "wine, beer:0.5", "the concepts")
    finally:
        file.write_text(text, encoding="utf-8")
        fresh.load(webui.url)
        apply_presets(fresh, before)
        fresh.wait(lambda: presets_are(webui, before), "the presets of before")
        fresh.reload_ui()
        fresh.load(webui.url)
    assert not fresh.checked()


# -- what others rely on ------------------------------------------------


def test_arguments_and_saved_defaults_have_their_old_names(webui):
    info = next(found for found in webui.call("script-info") if found["name"] == TITLE.lower())
    assert [arg["label"] for arg in info["args"]] == [option.label for option in OPTIONS]
    start = "customscript/growth_inhibitors.py/txt2img/"
    found = {key.removeprefix(start) for key in saved_keys(webui) if key.startswith(start) and key.endswith("/value")}
    adapter = "Adapter"  # no file that may be gone at the next start is saved
    assert found == {f"{option.label}/value" for option in OPTIONS if option.label != adapter}
    assert not [key for key in saved_keys(webui) if key.startswith("txt2img/nudity") or key.endswith("Advanced/value")]


def test_pasting_fills_what_is_out_of_sight(fresh):
    """Advanced is closed, and every field in it is set and used."""
    assert not fresh.is_shown(field("start"))
    text = (
        "a cat and a knife\nSteps: 8, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 4.0, Seed: 10, Size: 64x64, "
        "GIE concepts: knife, GIE adapter: Fixed scale, GIE fixed scale: -2.5, GIE steps: 0.1 to 0.8, "
        "GIE concept pass: separate, GIE hires pass: first only, GIE keep composition: True, "
        "GIE composition: 0.6 and 0.3, GIE show before: True, Version: 1.10.1"
    )
    fresh.fill("#txt2img_prompt textarea", text)
    fresh.click("#paste")
    fresh.wait(lambda: fresh.value(CONCEPTS) == "knife", "the pasted concept")
    fresh.wait(lambda: fresh.is_shown(field("scale")), "the scale")
    assert not fresh.is_shown(field("start"))
    wanted = ": Start 0.1, End 0.8, Concept pass separate, Keep composition, Composition: prompt's attention 0.6"
    fresh.wait(lambda: fresh.text(f"{ADVANCED} .gie-header").startswith(wanted), "what is set")
    infotext = fresh.generate()
    for entry in ("GIE steps: 0.1 to 0.8", "GIE concept pass: separate", "GIE composition: 0.6 and 0.3"):
        assert entry in infotext
    assert "GIE fixed scale: -2.5" in infotext
    fresh.wait(lambda: fresh.pictures() == 3, "the sheet, the result and the image without erasure")


# -- keyboard and screen readers ------------------------------------------------

FOCUS = """
    const found = document.activeElement;
    return found.closest('[id^=gie_]')?.id || found.id || found.tagName;
"""
NAME = """
    const input = arguments[0], by = input.getAttribute('aria-label');
    return by || [...(input.labels || [])].map(one => one.innerText.trim()).join(' ') || input.innerText.trim();
"""


def tab_through(page, start: str, most: int) -> list[str]:
    """What Tab reaches from an element on, by ids."""
    page.driver.execute_script("document.querySelector(arguments[0]).focus()", start)
    reached = []
    for _ in range(most):
        ActionChains(page.driver).send_keys(Keys.TAB).perform()
        reached.append(page.driver.execute_script(FOCUS))
    return reached


def test_the_keyboard_reaches_everything_in_its_order(fresh):
    reached = tab_through(fresh, CONCEPTS, 10)
    assert reached[:4] == [f"gie_txt2img_preset_{number}" for number in range(4)]
    assert list(dict.fromkeys(reached[4:])) [:4] == [
        "gie_txt2img_strength", "gie_txt2img_adapter", "gie_txt2img_adapter_refresh", "gie_txt2img_advanced",
    ]  # fmt: skip


def test_the_keyboard_alone_sets_it(fresh):
    """Type, open Advanced, tick, choose; and a preset."""
    keys = lambda *sent: ActionChains(fresh.driver).send_keys(*sent).perform()  # noqa: E731
    fresh.driver.execute_script("document.querySelector(arguments[0]).focus()", f"{ADVANCED} .label-wrap")
    assert fresh.find(f"{ADVANCED} .label-wrap").get_attribute("aria-expanded") == "false"
    keys(Keys.ENTER)
    fresh.wait(lambda: fresh.is_shown(field("start")), "Advanced")
    assert fresh.find(f"{ADVANCED} .label-wrap").get_attribute("aria-expanded") == "true"
    fresh.driver.execute_script("document.querySelector(arguments[0]).focus()", f"{field('keep_composition')} input")
    keys(" ")
    fresh.wait(lambda: fresh.is_shown(field("composition_cross")), "the shares")
    fresh.driver.execute_script("document.querySelector(arguments[0]).focus()", f"{ADVANCED} .label-wrap")
    keys(" ")
    fresh.wait(lambda: not fresh.is_shown(field("start")), "Advanced to close")
    fresh.driver.execute_script("document.querySelector(arguments[0]).focus()", "#gie_txt2img_preset_3")
    keys(Keys.ENTER)
    fresh.wait(lambda: fresh.value(CONCEPTS) == "knife", "the preset")


def test_the_header_opens_by_the_keyboard(page, webui):
    page.driver.execute_script("localStorage.clear()")
    page.load(webui.url)
    page.driver.execute_script("document.querySelector(arguments[0]).focus()", f"{ACCORDION} .label-wrap > .icon")
    ActionChains(page.driver).send_keys(Keys.ENTER).perform()
    page.wait(lambda: page.is_shown(CONCEPTS), "the fields")
    assert page.checked()


def test_screen_readers_get_a_name_and_the_help(fresh):
    open_advanced(fresh)
    inputs = fresh.driver.find_elements("css selector", f"{ACCORDION} :is(input, textarea, button, [role=button])")
    named = {fresh.driver.execute_script(NAME, one) for one in inputs}
    assert len(inputs) > 20
    assert "" not in named
    for option in OPTIONS[1:]:
        of_option = [
            one for one in inputs if one.find_elements("xpath", f"ancestor::*[@id='gie_txt2img_{option.name}']")
        ]
        assert of_option
        for one in of_option:
            assert fresh.driver.execute_script(NAME, one).startswith(option.label)
            help_text = fresh.driver.find_element("id", one.get_attribute("aria-describedby"))
            assert help_text.get_attribute("textContent") == option.help
    assert fresh.find(field("tokens")).get_attribute("aria-live") == "polite"


# -- three widths, two themes ------------------------------------------------

CUT_OFF = """
    const outer = document.querySelector(arguments[0]).getBoundingClientRect(), found = [];
    const parts = 'label, [data-testid=block-info], button, .label-wrap > span, li, input:not([type=range])';
    for (const part of document.querySelectorAll(`${arguments[0]} :is(${parts})`)) {
        const box = part.getBoundingClientRect();
        if (!box.width) continue;
        const beyond = box.left < outer.left - 1 || box.right > outer.right + 1;
        const inner = part.tagName !== 'LABEL' && (part.scrollWidth > part.clientWidth + 1 && part.clientWidth > 0);
        if (beyond || inner) found.push(part.outerHTML.slice(0, 120));
    }
    return found;
"""
OVERLAPS = """
    const boxes = [...document.querySelectorAll(arguments[1])]
        .map(part => [part.id || part.innerText.slice(0, 40), part.getBoundingClientRect()])
        .filter(([, box]) => box.width && box.height);
    const found = [];
    boxes.forEach(([one, a], k) => boxes.slice(k + 1).forEach(([other, b]) => {
        const across = Math.min(a.right, b.right) - Math.max(a.left, b.left);
        const down = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
        if (across > 1 && down > 1) found.push(`${one} and ${other}`);
    }));
    return [boxes.length, found];
"""
PARTS = ", ".join(
    [f"#gie_txt2img_{option.name}" for option in OPTIONS[1:]]
    + [f"{field('presets')} button", field("adapter_refresh"), f"{field('tokens')} li", f"{ADVANCED} .label-wrap"]
    + [f".block{field('readout')}"]
)
LABELS = f"{ACCORDION} :is([data-testid=block-info], input:not([id$=checkbox]), .label-wrap, li)"
CONTRAST = """
    const light = color => {
        const parts = color.match(/[\\d.]+/g).slice(0, 3).map(one => one / 255)
            .map(one => one <= 0.03928 ? one / 12.92 : ((one + 0.055) / 1.055) ** 2.4);
        return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2];
    };
    const behind = part => {
        for (; part; part = part.parentElement) {
            const color = getComputedStyle(part).backgroundColor;
            if (!/^rgba\\(.*, 0\\)$|transparent/.test(color)) return color;
        }
        return 'rgb(255, 255, 255)';
    };
    return [...document.querySelectorAll(arguments[0])].filter(part => part.getBoundingClientRect().width).map(part => {
        const both = [light(getComputedStyle(part).color), light(behind(part))].sort((a, b) => b - a);
        return [part.innerText, (both[0] + 0.05) / (both[1] + 0.05)];
    });
"""


def show_everything(page) -> None:
    page.fill("#txt2img_prompt textarea", "a cat and a knife")
    small(page)
    page.fill(CONCEPTS, "knife, wine:0.5, " + '"a very long description of a thing that nobody wants, in many words"')
    page.choose(field("adapter"), "Fixed scale")
    open_advanced(page)
    page.click(f"{field('keep_composition')} input")
    page.generate()
    set_hires(page, True)
    page.wait(lambda: page.is_shown(field("hires")), "all fields")


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_everything_fits(page, webui, theme):
    page.driver.execute_script("localStorage.clear()")
    page.load(webui.url, theme)
    page.set_enabled(True)
    show_everything(page)
    try:
        for width in WIDTHS:
            page.resize(width, 2600)
            assert page.driver.execute_script(CUT_OFF, ACCORDION) == [], width
            count, overlaps = page.driver.execute_script(OVERLAPS, ACCORDION, PARTS)
            assert count == len(OPTIONS) - 1 + 4 + 1 + 3 + 1 + 1
            assert overlaps == [], width
            assert page.driver.execute_script(OVERLAPS, ACCORDION, LABELS)[1] == [], width
            page.picture(f"accordion-{width}-{theme}", ACCORDION)
        texts = f"{ACCORDION} :is([data-testid=block-info], li, .gie-header, .label-wrap > span, button)"
        contrasts = page.driver.execute_script(CONTRAST, texts)
        assert len(contrasts) > 20
        assert [found for found in contrasts if found[1] < 4.5] == []  # what WCAG's level AA asks for
    finally:
        page.resize(1400)
        set_hires(page, False)
