"""Tests against a running WebUI with this extension and the demo checkpoint.

GIE_WEBUI_URL: its address; GIE_WEBUI_DIR: the folder of its checkout (or of its --data-dir). Optional:
GIE_WEBUI_STOCK_URL: the same WebUI without the extension, which "off" must equal bit for bit.
``python tests/webui/make_files.py FOLDER`` puts the demo checkpoint and small files for some tests there, before the
start.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from client import CHECKPOINT, WebUI

URL, FOLDER = os.environ.get("GIE_WEBUI_URL"), os.environ.get("GIE_WEBUI_DIR")
STOCK_URL = os.environ.get("GIE_WEBUI_STOCK_URL")


def connect(url: str) -> WebUI:
    found = WebUI(url, Path(FOLDER))
    found.use_checkpoint(CHECKPOINT)
    return found


@pytest.fixture(scope="session")
def webui() -> WebUI:
    """The WebUI with the extension."""
    if not (URL and FOLDER):
        pytest.skip("no WebUI: set GIE_WEBUI_URL to a running one's address and GIE_WEBUI_DIR to its checkout")
    return connect(URL)


@pytest.fixture(scope="session")
def stock(webui) -> WebUI:
    """The WebUI without the extension."""
    if not STOCK_URL:
        pytest.skip("no WebUI without the extension: set GIE_WEBUI_STOCK_URL to one's address")
    return connect(STOCK_URL)
