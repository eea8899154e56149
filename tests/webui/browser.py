"""The WebUI's page in headless Chromium, as the tests use it."""

from __future__ import annotations

import shutil
import time

import not_run
import pytest
from conftest import SCREENSHOTS

try:
    from selenium import webdriver
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.ui import WebDriverWait
except ImportError:  # the tests of the page are found without it, too, so that a run counts them
    webdriver = None

WAIT = 120
RELOAD_SECONDS = 30

SET = """
    const field = document.querySelector(arguments[0]);
    field.value = arguments[1];
    field.dispatchEvent(new Event('input', {bubbles: true}));
    field.dispatchEvent(new Event('change', {bubbles: true}));
"""
FETCH = """
    const done = arguments[arguments.length - 1];
    fetch(document.querySelector('#txt2img_gallery img').src)
        .then(answer => answer.arrayBuffer())
        .then(bytes => done(Array.from(new Uint8Array(bytes))));
"""


class Page:
    """A browser with the WebUI in it."""

    def __init__(self, driver):
        self.driver = driver

    def find(self, selector: str):
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def wait(self, condition, what: str, seconds: float = WAIT):
        return WebDriverWait(self.driver, seconds).until(lambda driver: condition(), what)

    def click(self, selector: str) -> None:
        self.driver.execute_script("arguments[0].click()", self.find(selector))

    def fill(self, selector: str, value) -> None:
        self.driver.execute_script(SET, selector, value)

    def choose(self, selector: str, value: str) -> None:
        """Choose an entry of a dropdown by the keyboard. ``selector``: of the whole field."""
        entry = self.find(f"{selector} input")
        self.driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", entry)
        entry.click()
        entry.clear()
        entry.send_keys(value)
        time.sleep(0.5)
        entry.send_keys("\n")
        self.wait(lambda: self.value(f"{selector} input") == value, f"{value!r} in {selector}")

    def open_tab(self, name: str) -> None:
        """Show one of the WebUI's tabs, by what its button says."""
        buttons = self.driver.find_elements(By.CSS_SELECTOR, "#tabs > .tab-nav button")
        self.driver.execute_script("arguments[0].click()", next(b for b in buttons if b.text.strip() == name))
        time.sleep(1)

    def text(self, selector: str) -> str:
        return self.driver.execute_script("return document.querySelector(arguments[0])?.textContent || ''", selector)

    def value(self, selector: str) -> str:
        return self.driver.execute_script("return document.querySelector(arguments[0]).value", selector)

    def checked(self) -> bool:
        return self.driver.execute_script(
            "return document.querySelector('#gie_txt2img_enabled-checkbox input').checked"
        )

    def set_enabled(self, wanted: bool) -> None:
        if self.checked() != wanted:
            self.click("#gie_txt2img_enabled-checkbox input")
        self.wait(lambda: self.checked() == wanted, "the checkbox to change")

    def busy(self) -> bool:
        return self.driver.execute_script("return document.querySelector('#txt2img_interrupt').style.display") != "none"

    def generate(self) -> str:
        """Press Generate; the text under the image, or the error."""
        self.click("#txt2img_generate")
        self.wait(lambda: not self.busy(), "the end of the generation")
        time.sleep(2)
        return self.text("#html_info_txt2img") + self.text("#html_log_txt2img")

    def reload_ui(self) -> None:
        """Press Reload UI and wait until it is over, on an empty page."""
        self.click("#settings_restart_gradio")
        time.sleep(1)
        self.driver.get("about:blank")
        time.sleep(RELOAD_SECONDS)  # a request that comes while the WebUI starts anew ends it ("Cannot add middleware")

    def load(self, url: str, theme: str = "light") -> None:
        """Open the WebUI's page anew."""
        self.driver.get(f"{url}/?__theme={theme}")
        there = "return !!document.querySelector('#gie_txt2img_enabled-visible-checkbox')"  # its scripts have run
        self.wait(lambda: self.driver.execute_script(there), "the page")
        time.sleep(3)

    def resize(self, width: int, height: int = 1600) -> None:
        """Give the page this size in pixels. A window cannot be as narrow as a phone."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        time.sleep(1)

    def is_shown(self, selector: str) -> bool:
        return self.find(selector).is_displayed()

    def image(self) -> list[int]:
        """The bytes of the image file in the gallery."""
        return self.driver.execute_async_script(FETCH)

    def pictures(self) -> int:
        """How many images the gallery shows."""
        return len(self.driver.find_elements(By.CSS_SELECTOR, "#txt2img_gallery .thumbnails img"))

    def choose_picture(self, number: int) -> None:
        """Show another of the gallery's images, -1 the last."""
        self.driver.find_elements(By.CSS_SELECTOR, "#txt2img_gallery .thumbnails button")[number].click()
        time.sleep(1)

    def picture(self, name: str, top: str = "#txt2img_prompt") -> None:
        """A screenshot from this element down."""
        if SCREENSHOTS:
            self.driver.execute_script("document.querySelector(arguments[0]).scrollIntoView()", top)
            time.sleep(1)
            self.driver.save_screenshot(f"{SCREENSHOTS}/{name}.png")


def open_page(webui) -> Page:
    """A new browser with the WebUI's page, its txt2img tab set for the demo checkpoint."""
    driver = shutil.which("chromedriver")
    if not (webdriver and driver):
        pytest.skip(not_run.BROWSER)
    options = webdriver.ChromeOptions()
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=1400,1600"):
        options.add_argument(argument)
    options.add_argument("--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost")
    binary = shutil.which("chromium") or shutil.which("chromium-browser")
    if binary:
        options.binary_location = binary
    browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    browser.set_page_load_timeout(WAIT)
    found = Page(browser)
    found.load(webui.url)
    found.fill("#txt2img_prompt textarea", "a cat and a knife")
    for name, value in (("steps", 20), ("width", 64), ("height", 64), ("cfg_scale", 4)):
        found.fill(f"#txt2img_{name} input[type=number]", value)
    found.fill("#txt2img_seed input", 10)
    return found
