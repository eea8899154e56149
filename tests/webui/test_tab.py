"""The tab "Growth Inhibitors" in headless Chromium: an adapter for a concept that none ships for, and its use."""

from __future__ import annotations

import re
import time

import pytest
from browser import open_page
from seer import Seer

from lib_gie.demo.world.things import OBJECTS, article
from lib_gie.json_lines import read_entries

CONCEPT = "umbrella"
OTHERS = [name for name in OBJECTS if name != CONCEPT]
TAB = "#tab_gie_train"
CLICK_SECOND = """
const images = document.querySelectorAll('#gie_train_pictures button.thumbnail-item');
images[1]?.click();
return images.length > 1;
"""
TRAINING_SECONDS = 900


def prompts(explicit: int, unrelated: int) -> str:
    named = [f"{article(name)} and an umbrella" for name in OTHERS[:explicit]]
    implied = ["a rainy day", "a rainy day on a blue background", "a photo of a rainy day", "a drawing of a rainy day"]
    pairs = [f"{article(a)} and {article(b)}" for a, b in zip(OTHERS, OTHERS[1:] + OTHERS[:1], strict=True)]
    other = [*map(article, OTHERS), *pairs]
    return "\n".join([*named, "[implicit]", *implied, "[unrelated]", *other[:unrelated]])


@pytest.fixture(scope="module")
def page(webui):
    folder = webui.folder / "models" / "growth-inhibitors"
    for name in (CONCEPT, "clicked", "graded"):
        path = folder / f"{name}.safetensors"
        path.unlink(missing_ok=True)
    for path in folder.glob("labels/*.jsonl"):  # of an earlier run of this test: nothing would be left to do
        if any(
            isinstance(entry, list) and entry[0] in (CONCEPT, "bicycle", "isosceles") for entry in read_entries(path)
        ):
            path.unlink()
    found = open_page(webui)
    found.open_tab("Growth Inhibitors")
    yield found
    found.driver.quit()


def status(page) -> str:
    return page.text("#gie_train_status")


def runs(page) -> bool:
    return bool(page.driver.find_elements("css selector", "#gie_train_status .gie-running"))


def set_order(page, **fields) -> None:
    for name, value in fields.items():
        kind = "textarea" if name in ("concept", "name", "prompts") else "input[type=number]"
        page.fill(f"#gie_train_{name} {kind}", value)
    time.sleep(1)


def train(page, until: str = "is trained") -> None:
    page.click("#gie_train_start")
    page.wait(lambda: until in status(page), repr(until), TRAINING_SECONDS)


def test_bad_orders_are_refused(page):
    for fields, says in (
        ({"concept": ""}, "there is no concept"),
        ({"concept": "knife, wine"}, "names 2 concepts"),
        ({"concept": CONCEPT, "name": "../x"}, "give a plain one"),
        ({"name": "", "prompts": "[unrelated]\na cat"}, "all unrelated"),
        ({"prompts": "an umbrella"}, "no prompt is unrelated"),
    ):
        set_order(page, **fields)
        train(page, says)


def test_interrupt_go_on_and_use_at_once(page, webui):
    sampling = {"steps": 12, "cfg": 4, "width": 64, "height": 64, "batch": 8}
    set_order(page, concept=CONCEPT, prompts=prompts(22, 46), seeds=1, grid=6, **sampling)
    page.wait(
        lambda: "72 prompts for umbrella: 22 explicit, 4 implicit" in page.text("#gie_train_what"), "the prompts' count"
    )
    page.click("#gie_train_measure")
    page.wait(lambda: "as measured here" in page.text("#gie_train_estimate"), "the time")
    page.click("#gie_train_start")
    page.wait(lambda: "Part 1 of 4: trying the judge self. Images: " in status(page), "the judge's trial")
    page.wait(lambda: re.search(r"Labels: [1-9]\d* of \d+", status(page)), "the first batch", TRAINING_SECONDS)
    started = time.monotonic()
    assert webui.txt2img().images  # someone else's generation meanwhile
    waited = time.monotonic() - started
    page.picture("tab-running", "#gie_train_estimate")
    page.click("#gie_train_stop")
    page.wait(lambda: "interrupted" in status(page), "the interruption")
    assert waited < 60
    time.sleep(3)  # the page takes no second click before the first one's answer has ended
    train(page)
    page.wait(lambda: page.driver.execute_script("return document.querySelectorAll('#gie_train_report img').length"),
              "the report")  # fmt: skip
    page.picture("tab-report", "#gie_train_status")
    assert page.text("#gie_train_status .gie-verdict").startswith(f"{CONCEPT} is ")
    assert "with one fixed scale" in status(page)
    assert f"Now Automatic takes for {CONCEPT} the adapter {CONCEPT}. To try it, open txt2img" in status(page)
    page.wait(lambda: f"{CONCEPT} is trained. To train it again" in page.text("#gie_train_estimate"), "the step's line")
    installed = {found["name"]: found for found in webui.get("gie/v1/adapters")["adapters"]}
    assert installed[CONCEPT]["concepts"] == installed[CONCEPT]["automatic"] == [CONCEPT]
    page.click("#tabs > .tab-nav button:first-child")
    page.set_enabled(True)
    page.fill("#txt2img_prompt textarea", "a cat and an umbrella")
    page.fill("#gie_txt2img_concepts textarea", CONCEPT)
    time.sleep(1)
    page.choose("#gie_txt2img_adapter", CONCEPT)  # in the list without a reload
    infotext = page.generate()
    assert f"GIE adapter: {CONCEPT} [" in infotext
    assert float(infotext.split("GIE scale: ")[1].split(",")[0]) < -0.3
    page.picture("tab-used")


def test_by_hand(page, webui):
    page.open_tab("Growth Inhibitors")
    page.choose("#gie_train_judge", "hand")
    few = [f"{article(name)} and an umbrella" for name in OTHERS[:4]]
    other = [article(name) for name in OTHERS[:20]]
    set_order(page, name="clicked", prompts="\n".join([*few, "[unrelated]", *other]), seeds=1, grid=3)
    page.click("#gie_train_start")
    for number in range(4):
        page.wait(lambda number=number: f"click on the first image that does not show {CONCEPT}" in status(page)
                  and f"Labels: {number} of 4" in status(page), f"question {number}")  # fmt: skip
        # without erasure, and at the scale that was calibrated
        page.wait(
            lambda: len(page.driver.find_elements("css selector", "#gie_train_pictures button img")) > 1, "images"
        )
        page.picture("tab-by-hand", "#gie_train_estimate")
        # in one go: the page empties the pictures before a question
        page.wait(lambda: page.driver.execute_script(CLICK_SECOND), "the second image")
    page.wait(lambda: "is trained" in status(page), "the end", TRAINING_SECONDS)
    assert "images for 4 labels: the concept showed in 4 without erasure" in status(page)


def test_a_judge_that_is_too_weak_is_told_before_the_concept_is_calibrated(page):
    """No image of the demo model shows these, whatever the judge learns; whoever insists trains nevertheless."""
    nothing = [f"{article(name)} and an isosceles" for name in OTHERS[:12]]
    other = [article(name) for name in OTHERS[:12]]
    page.open_tab("Growth Inhibitors")
    page.choose("#gie_train_judge", "self")
    set_order(page, concept="isosceles", name="isosceles", prompts="\n".join([*nothing, "[unrelated]", *other]))
    set_order(page, seeds=1, steps=8, cfg=4, width=64, height=64, batch=8)
    page.click("#gie_train_start")
    warning = "hardly tells images of prompts with isosceles from images of unrelated prompts"
    page.wait(lambda: warning in status(page), "the warning", TRAINING_SECONDS)
    assert not runs(page)
    page.picture("tab-weak-judge", "#gie_train_step_go")
    time.sleep(2)
    page.click("#gie_train_start")
    page.wait(lambda: "calibrating isosceles" in status(page), "the training nevertheless")
    page.click("#gie_train_stop")
    page.wait(lambda: "interrupted" in status(page), "the interruption")


@pytest.fixture
def seer(page):
    found = Seer()
    yield found
    set_settings(page, url="", model="", key="")
    found.shutdown()
    found.server_close()


def set_settings(page, **values) -> None:
    """The vision model's, on the settings page."""
    for name, value in values.items():
        page.fill(f"#setting_gie_vision_{name} textarea", value)
    time.sleep(1)
    page.click("#settings_submit")
    page.wait(lambda: "settings changed" in page.text("#settings_result"), "the settings to be applied")
    time.sleep(1)


def test_a_vision_model_judges(page, webui, seer):
    page.open_tab("Growth Inhibitors")
    page.choose("#gie_train_judge", "vision")
    sampling = {"steps": 8, "cfg": 4, "width": 64, "height": 64, "batch": 8}
    set_order(page, concept=CONCEPT, name="graded", prompts=prompts(10, 24), seeds=1, grid=3, **sampling)
    train(page, "Settings > Growth Inhibitors")  # the address is still empty
    set_settings(page, url=seer.url, model="seer", key="secret")
    page.open_tab("Growth Inhibitors")
    train(page)
    page.picture("tab-vision", "#gie_train_status")
    assert set(seer.asked) == {("/v1/chat/completions", "Bearer secret", "seer")}
    found = next(found for found in webui.get("gie/v1/adapters")["adapters"] if found["name"] == "graded")
    assert found["concepts"] == [CONCEPT]
    page.choose("#gie_train_judge", "self")


def test_automatic_without_an_adapter_says_so(page):
    page.click("#tabs > .tab-nav button:first-child")
    page.set_enabled(True)
    page.fill("#txt2img_prompt textarea", "a cat and a fish")
    page.fill("#gie_txt2img_concepts textarea", "fish")
    time.sleep(1)
    page.choose("#gie_txt2img_adapter", "Automatic")
    found = page.generate()
    assert "no adapter" in found
    page.picture("automatic-note", "#txt2img_results")


def test_a_closed_page_holds_nothing_up(page, webui):
    """A training goes on when its page is closed, another page shows it, and the WebUI's UI can be reloaded."""
    sampling = {"steps": 12, "cfg": 4, "width": 64, "height": 64, "batch": 8}
    other = open_page(webui)
    other.open_tab("Growth Inhibitors")
    set_order(other, concept="bicycle", prompts=prompts(22, 46), seeds=8, grid=6, **sampling)
    other.click("#gie_train_start")
    other.wait(lambda: runs(other), "the training")
    other.driver.quit()
    time.sleep(3)
    other = open_page(webui)
    other.open_tab("Growth Inhibitors")
    other.wait(lambda: runs(other), "the progress on a page opened later")
    other.wait(lambda: other.value("#gie_train_concept textarea") == "bicycle", "the order of the training that runs")
    assert other.value("#gie_train_prompts textarea") == prompts(22, 46)
    assert other.value("#gie_train_seeds input[type=number]") == "8"
    assert page.value("#gie_train_concept textarea") != "bicycle"  # where something is typed, it stays
    page.click("#tabs > .tab-nav button:first-child")
    page.open_tab("Growth Inhibitors")
    page.click("#gie_train_watch")
    page.wait(lambda: runs(page), "the progress on a page opened before")
    page.click("#gie_train_stop")
    page.wait(lambda: "interrupted" in status(page), "the interruption")
    other.wait(lambda: "interrupted" in status(other), "the interruption on the other page")
    other.driver.quit()
    page.reload_ui()
    assert webui.txt2img().images
