"""The training tab's page in headless Chromium, without a training: three steps, what each says, keyboard, widths."""

from __future__ import annotations

import time
from contextlib import suppress

import pytest
from test_accordion import CONTRAST, CUT_OFF, NAME, OVERLAPS, WIDTHS, tab_through

with suppress(ImportError):  # without it the tests are collected and not run, see browser.py
    from selenium.webdriver import ActionChains
    from selenium.webdriver.common.keys import Keys

TAB = "#tab_gie_train"
STEPS = ("what", "how", "go")
ADVANCED = ("count", "seeds", "grid", "sampler", "steps", "cfg", "width", "height", "batch", "usual")
FIELDS = ("concept", "list", "prompts", "judge", "effort", *ADVANCED[:-1], "name", "replace")


def field(name: str) -> str:
    return f"#gie_train_{name}"


def number(page, name: str) -> str:
    return page.value(f"{field(name)} input[type=number]")


@pytest.fixture
def fresh(page, webui):
    """The tab as it is opened first: nothing is remembered."""
    page.driver.execute_script("localStorage.clear()")
    page.load(webui.url)
    page.open_tab("Growth Inhibitors")
    return page


def press_preset(page, name: str) -> None:
    buttons = page.driver.find_elements("css selector", f"{field('presets')} button")
    next(button for button in buttons if button.text == name).click()


def open_advanced(page) -> None:
    page.click(f"{field('advanced')} .label-wrap")
    page.wait(lambda: page.is_shown(field("seeds")), "Advanced to open")


def says(page, place: str, text: str) -> None:
    page.wait(lambda: text in page.text(field(place)), f"{text!r} in {place}", 30)


# -- three steps ------------------------------------------------


def test_the_page_has_three_steps_and_little_else(fresh):
    titles = [fresh.text(f"{field(f'title_{step}')}") for step in STEPS]
    assert [title[:2] for title in titles] == ["1.", "2.", "3."]
    for name in ("concept", "presets", "list", "prompts", "judge", "effort", "name", "start", "stop"):
        assert fresh.is_shown(field(name)), name
    for name in ADVANCED:
        assert not fresh.is_shown(field(name)), name


def test_a_tab_that_was_opened_says_what_is_missing(fresh):
    says(fresh, "what", "Name what is to be erased")
    says(fresh, "how", "made with gie-demo, which is loaded")
    assert fresh.text(field("estimate")).strip() == ""


def test_a_preset_fills_the_page_and_the_time_stands_there(fresh, webui):
    press_preset(fresh, "violence")
    fresh.wait(lambda: fresh.value(f"{field('concept')} textarea") == "violence", "the concept")
    says(fresh, "what", "prompts for violence: 15 explicit, 15 implicit, 15 unrelated")
    assert "[implicit]" in fresh.value(f"{field('prompts')} textarea")
    says(fresh, "estimate", "Time: ")
    says(fresh, "estimate", "Images to make: usually ")
    fresh.picture("tab-preset", TAB)
    press_preset(fresh, "knife")
    says(fresh, "what", "prompts for knife: 60 explicit")
    assert fresh.value(f"{field('list')} input") == "demo-object"
    fresh.wait(lambda: fresh.value(f"{field('judge')} input") == "detector", "the judge that knows knives")


def test_a_concept_that_is_typed_brings_what_suits_it(fresh):
    """As long as nobody has written prompts."""
    fresh.find(f"{field('concept')} textarea").send_keys("guitar" + Keys.TAB)
    fresh.wait(lambda: fresh.value(f"{field('list')} input") == "demo-object", "the list for the demo model")
    says(fresh, "what", "60 explicit, 0 implicit, 7")
    fresh.wait(lambda: fresh.value(f"{field('judge')} input") == "detector", "the judge that knows guitars")
    own = "a guitar\n[unrelated]\na cat"
    fresh.fill(f"{field('prompts')} textarea", own)
    time.sleep(1)
    fresh.find(f"{field('concept')} textarea").send_keys(" style" + Keys.TAB)
    says(fresh, "what", "2 prompts for guitar style")
    time.sleep(2)
    assert fresh.value(f"{field('prompts')} textarea") == own
    assert fresh.value(f"{field('list')} input") == "demo-object"


def test_the_presets_are_those_of_the_settings(fresh, webui):
    names = [line.partition(":")[0] for line in webui.call("options")["gie_presets"].splitlines()]
    buttons = fresh.driver.find_elements("css selector", f"{field('presets')} button")
    assert [button.text for button in buttons] == names


def test_effort_stands_for_three_numbers(fresh):
    press_preset(fresh, "violence")
    says(fresh, "estimate", "Time: ")
    open_advanced(fresh)
    usual = fresh.text(field("estimate"))
    for name, count in (("Quick", "1"), ("Thorough", "8"), ("Usual", "4")):
        fresh.click(f"{field('effort')} input[value={name}]")
        fresh.wait(lambda count=count: number(fresh, "seeds") == count, name)
        wanted = name == "Usual"
        fresh.wait(lambda wanted=wanted: (fresh.text(field("estimate")) == usual) == wanted, "the estimate to follow")
    fresh.fill(f"{field('seeds')} input[type=number]", 3)
    checked = f"{field('effort')} input:checked"
    fresh.wait(lambda: not fresh.driver.find_elements("css selector", checked), "no name for it")
    fresh.fill(f"{field('seeds')} input[type=number]", 8)
    fresh.fill(f"{field('count')} input[type=number]", 500)
    fresh.wait(lambda: fresh.driver.find_elements("css selector", f"{field('effort')} input[value=Thorough]:checked"),
               "its name")  # fmt: skip
    fresh.click(f"{field('effort')} input[value=Usual]")
    fresh.wait(lambda: number(fresh, "seeds") == "4", "Usual")


def test_sampling_follows_the_loaded_model(fresh):
    open_advanced(fresh)
    fresh.fill(f"{field('width')} input[type=number]", 512)
    says(fresh, "how", "Its images are usually 64x64, not 512x64")
    fresh.click(field("usual"))
    fresh.wait(lambda: number(fresh, "width") == "64", "the demo checkpoint's width")
    fresh.fill(f"{field('width')} input[type=number]", 512)
    fresh.fill(f"{field('height')} input[type=number]", 512)
    fresh.fill(f"{field('cfg')} input[type=number]", 7)
    fresh.fill(f"{field('steps')} input[type=number]", 20)
    time.sleep(1)
    fresh.open_tab("txt2img")
    fresh.open_tab("Growth Inhibitors")  # what another family's models usually have, nobody has chosen
    fresh.wait(lambda: (number(fresh, "width"), number(fresh, "cfg")) == ("64", "4"), "the demo checkpoint's sampling")
    fresh.fill(f"{field('steps')} input[type=number]", 9)
    time.sleep(1)
    fresh.open_tab("txt2img")
    fresh.open_tab("Growth Inhibitors")
    time.sleep(3)
    assert number(fresh, "steps") == "9"


# -- problems stand where they arise ------------------------------------------------


def test_problems_stand_at_their_step(fresh):
    press_preset(fresh, "knife")
    says(fresh, "estimate", "Time: ")
    fresh.fill(f"{field('concept')} textarea", "knife, wine")
    says(fresh, "what", "names 2 concepts")
    fresh.wait(lambda: not fresh.text(field("estimate")).strip(), "no estimate of what cannot be trained")
    fresh.fill(f"{field('concept')} textarea", "nothing known")
    says(fresh, "how", "the detector knows the demo model")
    says(fresh, "what", "prompts for nothing known: 60 explicit")
    fresh.fill(f"{field('prompts')} textarea", "a knife\n[unrelated]\na cat\na dog\na fish\na car")
    says(fresh, "what", "There are few prompts with 'nothing known': 1.")
    says(fresh, "what", "No prompt under [explicit] names 'nothing known'")
    fresh.fill(f"{field('name')} textarea", "demo-beer")
    says(fresh, "estimate", "lies in the extension's own folder")
    marked = f"{TAB} :is(.gie-error, .gie-doubt)"
    colors = fresh.driver.execute_script(
        "return [...document.querySelectorAll(arguments[0])].map(one => getComputedStyle(one).color)", marked
    )
    usual = fresh.driver.execute_script(
        "return getComputedStyle(document.querySelector(arguments[0])).color", f"{TAB} h3"
    )
    says(fresh, "what", "The demo model does not know the word")
    assert len(colors) == 2 + 4
    assert usual not in colors  # gradio colours all that it shows, if it is let
    assert [found for found in fresh.driver.execute_script(CONTRAST, marked) if found[1] < 4.5] == []
    fresh.picture("tab-problems", TAB)


# -- keyboard and screen readers ------------------------------------------------


def test_the_keyboard_goes_from_step_to_step(fresh):
    reached = list(dict.fromkeys(tab_through(fresh, f"{field('concept')} textarea", 16)))
    wanted = [f"gie_train_{name}" for name in ("list", "prompts", "judge", "effort", "advanced", "name", "replace",
                                               "start", "stop", "watch", "measure")]  # fmt: skip
    assert [name for name in reached if name in wanted] == wanted
    assert reached[:4] == [f"gie_train_preset_{place}" for place in range(4)]


def test_advanced_opens_by_the_keyboard_and_stays_as_it_was_left(fresh, webui):
    header = f"{field('advanced')} .label-wrap"
    fresh.driver.execute_script("document.querySelector(arguments[0]).focus()", header)
    ActionChains(fresh.driver).send_keys(Keys.ENTER).perform()
    fresh.wait(lambda: fresh.is_shown(field("seeds")), "Advanced")
    assert fresh.find(header).get_attribute("aria-expanded") == "true"
    fresh.load(webui.url)
    fresh.open_tab("Growth Inhibitors")
    fresh.wait(lambda: fresh.is_shown(field("seeds")), "Advanced as it was left")


def test_screen_readers_get_names(fresh):
    open_advanced(fresh)
    inputs = fresh.driver.find_elements("css selector", f"{TAB} :is(input, textarea, button, [role=button])")
    shown = [one for one in inputs if one.is_displayed()]
    assert len(shown) > 25
    assert [one.get_attribute("outerHTML")[:120] for one in shown if not fresh.driver.execute_script(NAME, one)] == []
    for step in STEPS:
        group = fresh.find(field(f"step_{step}"))
        assert group.get_attribute("role") == "group"
        assert fresh.text(f"#{group.get_attribute('aria-labelledby')}")
    for place in ("what", "how", "estimate", "status"):
        assert fresh.find(field(place)).get_attribute("aria-live") == "polite"


# -- three widths, two themes ------------------------------------------------

PARTS = ", ".join(
    [field(name) for name in (*FIELDS, "start", "stop", "watch", "measure")]
    + [f".block{field(name)}" for name in ("what", "how", "estimate")]  # what is in it has the same id
)
LABELS = f"{TAB} :is([data-testid=block-info], h3, .label-wrap, .gie-buttons button)"


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_everything_fits(page, webui, theme):
    page.driver.execute_script("localStorage.clear()")
    page.load(webui.url, theme)
    page.open_tab("Growth Inhibitors")
    press_preset(page, "van gogh style")
    says(page, "estimate", "Time: ")
    try:
        for width in WIDTHS:
            page.resize(width, 2200)
            page.picture(f"tab-{width}-{theme}", TAB)
        open_advanced(page)
        for width in WIDTHS:
            page.resize(width, 3000)
            cut = page.driver.execute_script(CUT_OFF, TAB)
            assert [part for part in cut if "thumbnail-item" not in part] == [], width  # galleries of a report scroll
            count, overlaps = page.driver.execute_script(OVERLAPS, TAB, PARTS)
            assert count == len(FIELDS) + 3 + 4
            assert overlaps == [], width
            assert page.driver.execute_script(OVERLAPS, TAB, LABELS)[1] == [], width
            page.picture(f"tab-advanced-{width}-{theme}", TAB)
        info = "[data-testid=block-info]"
        texts = f"{TAB} :is(h3, {info}, {info} + div, .gie-line span, button:not(.primary))"  # Train is as Generate is
        contrasts = page.driver.execute_script(CONTRAST, texts)
        assert len(contrasts) > 25
        assert [found for found in contrasts if found[1] < 4.5] == []  # what WCAG's level AA asks for
    finally:
        page.resize(1400)
