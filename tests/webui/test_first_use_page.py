"""A concept that nothing ships for, typed into the field in headless Chromium: one click, and it is gone."""

from __future__ import annotations

import io
import time
from pathlib import Path

import pytest
from browser import open_page
from conftest import SCREENSHOTS
from looking import seen
from PIL import Image
from test_first_use import NAMED, SECONDS, calibrating  # noqa: F401


@pytest.fixture
def page(calibrating):  # noqa: F811
    found = open_page(calibrating)
    yield found
    found.driver.quit()


def shown_by(page) -> frozenset[str]:
    """What the gallery's image shows."""
    return seen(Image.open(io.BytesIO(bytes(page.image()))))


def test_one_click(page):
    page.fill("#txt2img_prompt textarea", NAMED)
    page.fill("#txt2img_seed input", 6)
    page.generate()
    assert "banana" in shown_by(page)
    page.picture("calibration-without")
    page.set_enabled(True)
    page.fill("#gie_txt2img_concepts textarea", "banana")
    page.wait(lambda: "banana: 1/75" in page.text("#gie_txt2img_tokens"), "the concept's line")
    assert "calibration, which the first image makes" in page.text("#gie_txt2img_tokens")
    started = time.monotonic()
    page.click("#txt2img_generate")
    page.wait(lambda: "calibrating banana" in page.text("#txt2img_results"), "the progress")
    page.wait(lambda: page.text("#gie_txt2img_now").strip() == "calibrating banana", "what a screen reader is told")
    assert page.find("#gie_txt2img_now").get_attribute("aria-live") == "polite"
    page.picture("calibration-running")
    page.wait(lambda: not page.busy(), "the end of the generation")
    assert time.monotonic() - started < SECONDS
    time.sleep(2)
    text = page.text("#html_info_txt2img") + page.text("#html_log_txt2img")
    assert "GIE adapter: banana-calibrated-" in text
    assert "'banana' was calibrated on this checkpoint" in text
    assert "banana-calibrated-" in page.text("#gie_txt2img_readout")
    assert page.text("#gie_txt2img_now").strip() == ""
    assert "erasure applied to banana (named or implied" in page.text("#gie_txt2img_erased")
    line = page.text("#gie_txt2img_tokens")
    assert "calibration banana-calibrated-" in line  # it is there now
    assert "last image: named or implied" in line
    page.picture("calibration-done")
    assert "house" in shown_by(page)
    assert "banana" not in shown_by(page)
    _join("calibration-running", "calibration-done")


def _join(*names: str) -> None:
    """Put the lower parts of pictures beside each other in calibration.png."""
    if not SCREENSHOTS:
        return
    parts = [Image.open(Path(SCREENSHOTS, f"{name}.png")).convert("RGB") for name in names]
    parts = [part.crop((30, 320, 1375, min(part.height, 1370))) for part in parts]
    paper = Image.new("RGB", (sum(part.width for part in parts), max(part.height for part in parts)), "white")
    for number, part in enumerate(parts):
        paper.paste(part, (number * parts[0].width, 0))
    paper.resize((paper.width // 2, paper.height // 2)).save(Path(SCREENSHOTS, "calibration.png"))
