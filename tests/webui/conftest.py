"""Tests against a running WebUI with this extension and the demo checkpoint.

GIE_WEBUI_URL: its address; GIE_WEBUI_DIR: the folder of its checkout (or of its --data-dir). Optional:
GIE_WEBUI_STOCK_URL: the same WebUI without the extension, which "off" must equal bit for bit; it must be started with
GIE_DEMO_TEXT_ENCODER set to this project's models/demo/text_encoder, which the extension does elsewhere.
``python tests/webui/make_files.py FOLDER`` puts the demo checkpoint and small files for some tests there, before the
start. GIE_WEBUI_ENFORCED_URL: the same WebUI with this extension, started with --gie-enforce knife.
GIE_WEBUI_PYTHON: the Python that runs the WebUI, for tests of its arguments.
GIE_WEBUI_SCREENSHOTS: a folder where some tests put pictures of what they saw.
"""

from __future__ import annotations

import os
from pathlib import Path

import not_run
import pytest
from client import CHECKPOINT, WebUI

URL, FOLDER = os.environ.get("GIE_WEBUI_URL"), os.environ.get("GIE_WEBUI_DIR")
STOCK_URL = os.environ.get("GIE_WEBUI_STOCK_URL")
ENFORCED_URL = os.environ.get("GIE_WEBUI_ENFORCED_URL")
SCREENSHOTS = os.environ.get("GIE_WEBUI_SCREENSHOTS")


DEFAULTS = {
    "pad_cond_uncond": False, "pad_cond_uncond_v0": False, "batch_cond_uncond": True, "s_min_uncond": 0,
    "s_min_uncond_all": False,
    "skip_early_cond": 0, "lora_functional": False, "token_merging_ratio": 0, "hypertile_enable_unet": False,
    "hypertile_max_tile_unet": 256,
    "CLIP_stop_at_last_layers": 1, "live_preview_content": "Prompt", "sd_unet": "None", "sd_vae": "Automatic",
    "emphasis": "Original", "use_old_emphasis_implementation": False, "hires_fix_use_firstpass_conds": False,
    "sdxl_clip_l_skip": False, "sdxl_crop_top": 0, "sdxl_crop_left": 0, "cross_attention_optimization": "Automatic",
    "img2img_color_correction": False, "save_incomplete_images": False, "grid_only_if_multiple": True, "tiling": False,
}  # fmt: skip
"""Options that requests override. The WebUI puts them back only where they have been set before."""


def connect(url: str) -> WebUI:
    """Connect to a WebUI. Concepts are not calibrated on first use there, except in the tests that are about it."""
    found = WebUI(url, Path(FOLDER))
    found.call("options", DEFAULTS)
    found.get("gie-test/calibrates?wanted=false")
    found.use_checkpoint(CHECKPOINT)
    return found


@pytest.fixture(scope="session")
def webui() -> WebUI:
    """The WebUI with the extension."""
    if not (URL and FOLDER):
        pytest.skip(not_run.WEBUI)
    return connect(URL)


@pytest.fixture(scope="session")
def stock(webui) -> WebUI:
    """The WebUI without the extension."""
    if not STOCK_URL:
        pytest.skip(not_run.STOCK_WEBUI)
    return connect(STOCK_URL)


@pytest.fixture(scope="session")
def enforced(webui) -> WebUI:
    """The WebUI that always erases knife."""
    if not ENFORCED_URL:
        pytest.skip(not_run.ENFORCED_WEBUI)
    return connect(ENFORCED_URL)


@pytest.fixture(scope="module")
def page(webui):
    """The page in headless Chromium."""
    from browser import open_page  # which takes SCREENSHOTS from here

    found = open_page(webui)
    yield found
    found.driver.quit()
