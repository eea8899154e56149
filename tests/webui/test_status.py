"""What the page says of an erasure beside its gallery, and the slider between both images, in headless Chromium."""

from __future__ import annotations

import io
import re
import threading
import time
from contextlib import suppress

import numpy as np
import pytest
from browser import open_page
from client import SCALE
from PIL import Image
from test_accordion import CONTRAST, CUT_OFF, field, open_advanced, small

with suppress(ImportError):  # without it the tests are collected and not run, see browser.py
    from selenium.webdriver import ActionChains
    from selenium.webdriver.common.keys import Keys

ASK, BAR, RANGE, LAYER = field("ask"), f"{field('compare')} .gie-compare", f"{field('compare')} input", ".gie-both"
BYTES = """
    const done = arguments[arguments.length - 1];
    fetch(document.querySelectorAll('#txt2img_gallery .thumbnails img')[arguments[0]].src)
        .then(answer => answer.arrayBuffer())
        .then(bytes => done(Array.from(new Uint8Array(bytes))));
"""
CHOSEN = """
    const all = [...document.querySelectorAll('#txt2img_gallery .thumbnails .thumbnail-item')];
    return all.findIndex(one => one.classList.contains('selected'));
"""
IS_OLD = "return document.querySelector('#gie_txt2img_erased').classList.contains('gie-old')"
SHOWN = """
    const part = document.querySelector(arguments[0]);
    return Boolean(part && part.getBoundingClientRect().width);
"""


def is_there(page, selector: str) -> bool:
    return page.driver.execute_script(SHOWN, selector)


def fresh(page, webui, concepts: str = "knife", theme: str = "light"):
    """The page as it is opened first, set for a small image."""
    page.driver.execute_script("localStorage.clear()")
    page.load(webui.url, theme)
    page.fill("#txt2img_prompt textarea", "a cat and a knife")
    small(page)
    page.fill("#txt2img_batch_size input[type=number]", 1)
    if concepts:
        page.set_enabled(True)
        page.fill(f"{field('concepts')} textarea", concepts)
        page.wait(lambda: page.text(field("tokens")), "the concept's line")
    return page


def said(page) -> str:
    return " ".join(page.text(field("erased")).split())


def generated(page) -> str:
    """Generate; what the page says of it."""
    before = said(page)
    page.generate()
    with suppress(Exception):  # a generation may be said the same of as the one before
        page.wait(lambda: said(page) != before, "the lines", 5)
    return said(page)


def ask(page) -> None:
    pictures = page.pictures()
    page.wait(lambda: page.find(ASK).is_enabled(), "the button")
    page.click(ASK)
    page.wait(lambda: page.pictures() == pictures + 1, "the image without erasure")
    page.wait(lambda: not page.busy(), "the end")
    time.sleep(1)


def pixels(page, number: int) -> np.ndarray:
    """uint8 [H, W, 3] of an image in the gallery."""
    page.wait(lambda: page.pictures() > number, "the picture")
    found = bytes(page.driver.execute_async_script(BYTES, number))
    return np.asarray(Image.open(io.BytesIO(found)).convert("RGB"))


def infotext(page) -> str:
    return page.driver.execute_script("return document.querySelector('#html_info_txt2img').innerText")


# -- the lines ------------------------------------------------


def test_the_lines_and_the_button(page, webui):
    """Nothing is there at first; after an erasure both are; they go with a generation without one."""
    fresh(page, webui)
    assert said(page) == ""
    assert not is_there(page, ASK)
    assert not is_there(page, BAR)
    assert page.find(field("erased")).get_attribute("aria-live") == "polite"
    line = generated(page)
    assert line.startswith("Seed 10: erasure applied to knife (named or implied 100 %, scale -")
    line, _, next_step = line.partition("Look whether ")
    assert "adapter demo-knife" in line
    assert next_step.startswith("it is gone. If an image still shows it, take its seed")
    page.wait(lambda: is_there(page, ASK), "the button")
    assert not is_there(page, BAR)
    page.set_enabled(False)
    assert generated(page).startswith("Nothing was erased: concepts are filled in, but Erase concepts was not ticked")
    page.wait(lambda: not is_there(page, ASK), "the button to go")
    page.fill(f"{field('concepts')} textarea", "")
    assert generated(page) == ""


def test_nothing_erased_is_said(page, webui):
    fresh(page, webui, "knife:0")
    assert generated(page).startswith("Seed 10: nothing was erased: knife not erased (")


def test_an_api_answer_has_no_name_to_ask_by(webui):
    body = {
        "prompt": "a cat", "steps": 2, "width": 64, "height": 64,
        "alwayson_scripts": {"Growth Inhibitors": {"args": [True, "knife"]}},
    }  # fmt: skip
    assert '"GIE pictures": {"pairs": [], "again": null}' in webui.call("txt2img", body)["info"]


# -- what runs ------------------------------------------------


def test_reading_is_told(webui):
    """An adapter reads a prompt in an image's first step."""
    found, done = set(), threading.Event()

    def watch():
        while not done.is_set():
            found.add(webui.call("progress?skip_current_image=true")["textinfo"])

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        webui.txt2img(args=[True, "knife"], steps=2, n_iter=8)
    finally:
        done.set()
        watcher.join()
    assert "reading how present knife is" in found
    assert webui.call("progress")["textinfo"] not in found - {None}


# -- was it there? ------------------------------------------------


def test_was_it_there(page, webui):
    """It is the image of the accordion switched off, its infotext says so, and nothing more is saved."""
    fresh(page, webui)
    generated(page)
    erased, saved = pixels(page, 0), files(webui)
    ask(page)
    assert np.array_equal(pixels(page, 0), erased)
    assert "Picture 2, seed 10, for comparison: nothing was erased" in said(page)
    assert files(webui) == saved
    unerased = pixels(page, 1)
    page.choose_picture(1)
    page.wait(lambda: "GIE" not in infotext(page), "its infotext")
    assert "Seed: 10" in infotext(page)
    page.choose_picture(0)
    page.wait(lambda: "GIE concepts: knife" in infotext(page), "the erased image's infotext")
    page.set_enabled(False)
    generated(page)
    assert np.array_equal(pixels(page, 0), unerased)
    assert not np.array_equal(erased, unerased)


def files(webui) -> set:
    return set(webui.folder.rglob("outputs/**/*.png"))


def test_it_is_asked_of_the_chosen_image(page, webui):
    """Of a batch the second, whatever the fields say by then."""
    fresh(page, webui)
    page.fill("#txt2img_batch_size input[type=number]", 2)
    generated(page)
    assert page.pictures() == 3  # the grid first
    page.fill("#txt2img_prompt textarea", "a house")
    page.fill(f"{field('concepts')} textarea", "wine")
    page.choose_picture(2)
    ask(page)
    assert "Picture 4, seed 11, for comparison: nothing was erased" in said(page)
    shown = pixels(page, 3)
    page.choose_picture(3)
    page.wait(lambda: "a cat and a knife" in infotext(page), "its infotext")
    page.fill("#txt2img_prompt textarea", "a cat and a knife")
    page.fill("#txt2img_batch_size input[type=number]", 1)
    page.fill("#txt2img_seed input", 11)
    page.choose_picture(0)  # gradio shows no preview where the chosen one is not there any longer
    page.set_enabled(False)
    generated(page)
    assert np.abs(pixels(page, 0).astype(int) - shown).max() <= 2  # a batch rounds otherwise


def test_it_is_saved_where_the_user_says_so(page, webui):
    fresh(page, webui)
    generated(page)
    before = files(webui)
    webui.call("options", {"gie_save_before": True})
    try:
        ask(page)
        assert ["-without-erasure" in file.name for file in files(webui) - before] == [True]
    finally:
        webui.call("options", {"gie_save_before": False})


def test_other_settings_are_told(page, webui):
    fresh(page, webui)
    generated(page)
    webui.call("options", {"CLIP_stop_at_last_layers": 2})
    try:
        ask(page)
        page.wait(lambda: "settings have changed since" in page.text("#html_log_txt2img"), "the note")
        assert "Clip skip" in page.text("#html_log_txt2img")
    finally:
        webui.call("options", {"CLIP_stop_at_last_layers": 1})


def test_only_pictures_of_the_webui_are_given_back(page, webui):
    """Who sends another file's name as the gallery's does not get that file, and the gallery stays."""
    fresh(page, webui)
    generated(page)
    page.driver.execute_script("""
        const inner = window.growthInhibitorsAsk;
        window.growthInhibitorsAsk = (tab, values) => {
            const sent = inner(tab, values);
            sent[3] = [{name: arguments[0], data: null, is_file: true}];
            return sent;
        };
    """, str(webui.folder / "config.json"))  # fmt: skip
    page.click(ASK)
    page.wait(lambda: "a picture that this WebUI has not made" in page.text("#html_log_txt2img"), "the refusal")
    assert page.pictures() == 1


def test_in_img2img_as_well(page, webui):
    fresh(page, webui)
    generated(page)
    page.click("#txt2img_send_to_img2img")
    time.sleep(2)
    for name, value in (("steps", 8), ("width", 64), ("height", 64)):
        page.fill(f"#img2img_{name} input[type=number]", value)
    if not page.driver.execute_script("return document.querySelector('#gie_img2img_enabled-checkbox input').checked"):
        page.click("#gie_img2img_enabled-checkbox input")
    page.fill("#gie_img2img_concepts textarea", "knife")
    time.sleep(1)
    page.click("#img2img_generate")
    page.wait(lambda: "knife" in page.text("#gie_img2img_erased"), "the lines")
    page.wait(lambda: is_there(page, "#gie_img2img_ask"), "the button")
    page.click("#gie_img2img_ask")
    page.wait(lambda: "nothing was erased" in page.text("#gie_img2img_erased"), "the image without erasure")
    page.wait(lambda: is_there(page, "#gie_img2img_compare .gie-compare"), "the slider")


# -- the slider ------------------------------------------------


def clip(page) -> str:
    return page.driver.execute_script(f"return document.querySelector('{LAYER}').children[1].style.clipPath")


def layers(page) -> list[str]:
    """What the two layers show, the upper one last, by their numbers in the gallery."""
    return page.driver.execute_script(f"""
        const pictures = [...document.querySelectorAll('#txt2img_gallery .thumbnails img')].map(one => one.src);
        return [...document.querySelector('{LAYER}').children].map(one => pictures.indexOf(one.src));
    """)


def test_the_slider_of_the_option(page, webui):
    """No click is needed where both are made anyway; the sheet has no slider."""
    fresh(page, webui)
    open_advanced(page)
    page.click(f"{field('show_before')} input")
    generated(page)
    assert page.pictures() == 3
    page.wait(lambda: is_there(page, BAR) and is_there(page, LAYER), "the slider")
    assert layers(page) == [0, 1]
    assert not page.find(ASK).is_enabled()
    page.choose_picture(1)
    page.wait(lambda: is_there(page, BAR), "the slider")
    page.choose_picture(2)
    page.wait(lambda: not is_there(page, BAR) and not is_there(page, LAYER), "the slider to go")


def test_the_next_generation_shows_the_erased_image(page, webui):
    """gradio keeps the chosen place, where the next job has an image without erasure."""
    fresh(page, webui)
    open_advanced(page)
    page.click(f"{field('show_before')} input")
    generated(page)
    page.choose_picture(1)
    page.fill("#txt2img_seed input", 12)
    generated(page)
    page.wait(lambda: page.driver.execute_script(CHOSEN) == 0, "the erased image to be chosen")
    page.wait(lambda: "GIE concepts: knife" in infotext(page), "its infotext")
    page.choose_picture(1)
    page.fill("#txt2img_steps input[type=number]", 9)  # the line is letter for letter the same then
    generated(page)
    page.wait(lambda: page.driver.execute_script(CHOSEN) == 0, "the erased image to be chosen again")
    page.choose_picture(1)  # who wants the other one has it
    time.sleep(1)
    assert page.driver.execute_script(CHOSEN) == 1


def test_pictures_of_attention_are_of_an_image(page, webui):
    """Where their image is there without erasure, nothing is left to ask."""
    fresh(page, webui)
    open_advanced(page)
    page.click(f"{field('show_attention')} input")
    generated(page)
    page.choose_picture(1)
    ask(page)
    assert "Picture 4, seed 10, for comparison" in said(page) or "Picture 5, seed 10, for comparison" in said(page)
    page.choose_picture(1)
    page.wait(lambda: not page.find(ASK).is_enabled(), "the button to be switched off")
    assert not is_there(page, BAR)
    page.choose_picture(0)
    page.wait(lambda: is_there(page, BAR), "the slider")


def test_old_lines_are_pale_while_the_next_images_are_made(page, webui):
    fresh(page, webui)
    generated(page)
    page.fill("#txt2img_batch_count input[type=number]", 8)
    assert not page.driver.execute_script(IS_OLD)
    page.click("#txt2img_generate")
    page.wait(lambda: page.driver.execute_script(IS_OLD), "the lines to become pale")
    page.wait(lambda: not page.busy() and not page.driver.execute_script(IS_OLD), "the lines to be as before", 120)


def test_the_keyboard_moves_the_slider(page, webui):
    fresh(page, webui)
    generated(page)
    ask(page)
    page.wait(lambda: is_there(page, BAR), "the slider")
    slider = page.find(RANGE)
    assert slider.get_attribute("aria-label") == "How much of the picture is shown without erasure"
    page.driver.execute_script("arguments[0].focus()", slider)
    assert clip(page) == "inset(0px 50% 0px 0px)"
    ActionChains(page.driver).send_keys(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT).perform()
    page.wait(lambda: clip(page) == "inset(0px 48% 0px 0px)", "the slider to move")
    assert slider.get_attribute("aria-valuetext") == "without erasure 52 %"
    ActionChains(page.driver).send_keys(Keys.HOME).perform()
    page.wait(lambda: clip(page) == "inset(0px 100% 0px 0px)", "the erased image alone")
    ActionChains(page.driver).send_keys(Keys.END).perform()
    page.wait(lambda: re.fullmatch(r"inset\(0px( 0%.*)?\)", clip(page)), "the image without erasure alone")


def test_the_slider_goes_with_the_next_generation(page, webui):
    fresh(page, webui)
    generated(page)
    ask(page)
    page.wait(lambda: is_there(page, BAR), "the slider")
    page.fill("#txt2img_seed input", 12)
    generated(page)
    page.wait(lambda: not is_there(page, BAR) and not is_there(page, LAYER), "the slider to go")
    assert page.find(ASK).is_enabled()


def test_without_javascript_both_pictures_stay(webui):
    """The slider is hidden in what the server sends, and shown by the page's script alone."""
    config = str(webui.get("config"))
    assert "<div class='gie-compare' hidden>" in config.replace("\\'", "'")


# -- what an admin always erases ------------------------------------------------


def test_what_is_enforced_is_erased_from_the_answer(enforced, webui):
    """Erasing cat, one asks what it would have been: it is never without the knife's erasure."""
    page = open_page(enforced)
    try:
        fresh(page, enforced, "cat")
        page.choose(field("adapter"), "Fixed scale")
        page.fill(f"{field('scale')} input[type=number]", SCALE)
        assert "erasure applied to knife, as always on this WebUI; erasure applied to cat (" in generated(page)
        erased = pixels(page, 0)
        ask(page)
        assert "for comparison: erasure applied only to knife, as always on this WebUI" in said(page)
        shown = pixels(page, 1)
        page.choose_picture(1)
        page.wait(lambda: "GIE enforced: knife" in infotext(page), "its infotext")
        assert "GIE concepts" not in infotext(page)
        page.choose_picture(0)
        page.set_enabled(False)
        page.fill(f"{field('concepts')} textarea", "")
        generated(page)
        assert np.array_equal(pixels(page, 0), shown)
        assert not np.array_equal(erased, shown)
        assert not is_there(page, ASK)
        page.load(webui.url)
        small(page)
        page.fill("#txt2img_prompt textarea", "a cat and a knife")
        page.generate()
        page.wait(lambda: page.pictures() == 1, "the image with a knife")
        assert not np.array_equal(pixels(page, 0), shown)
    finally:
        page.driver.quit()


# -- two widths, two themes ------------------------------------------------

ALIGNED = """
    const layer = document.querySelector('.gie-both').getBoundingClientRect();
    const gallery = document.querySelector('#txt2img_gallery').getBoundingClientRect();
    const within = layer.left >= gallery.left - 1 && layer.right <= gallery.right + 1;
    return [within, Math.abs(layer.width - layer.height) < 2, layer.width > 100];
"""


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_it_fits(page, webui, theme):
    fresh(page, webui, "knife, wine", theme)
    generated(page)
    ask(page)
    try:
        for width in (1280, 400):
            page.resize(width, 1600)
            page.wait(lambda: is_there(page, LAYER), "the slider")
            assert page.driver.execute_script(CUT_OFF, "#gie_txt2img_beside") == [], width
            assert page.driver.execute_script(ALIGNED) == [True, True, True], width
            page.picture(f"status-{width}-{theme}", "#txt2img_results")
        contrasts = page.driver.execute_script(CONTRAST, "#gie_txt2img_beside :is(li, span)")
        assert len(contrasts) == 4
        assert [found for found in contrasts if found[1] < 4.5] == []  # what WCAG's level AA asks for
    finally:
        page.resize(1400)
