"""Tests against a running WebUI: GIE_WEBUI_URL is its address, GIE_WEBUI_DIR the folder of its checkout."""

from __future__ import annotations

import json
import os
import urllib.request
from pathlib import Path

import pytest

URL, FOLDER = os.environ.get("GIE_WEBUI_URL"), os.environ.get("GIE_WEBUI_DIR")


class WebUI:
    """A running WebUI's API."""

    def __init__(self, url: str, folder: Path):
        self.url, self.folder = url.rstrip("/"), folder

    def call(self, path: str, body: dict | None = None, timeout: float = 600):
        """The JSON answer of /sdapi/v1/PATH."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.url}/sdapi/v1/{path}", data, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=timeout) as answer:
            return json.load(answer)


@pytest.fixture(scope="session")
def webui() -> WebUI:
    if not (URL and FOLDER):
        pytest.skip("no WebUI: set GIE_WEBUI_URL to a running one's address and GIE_WEBUI_DIR to its checkout")
    return WebUI(URL, Path(FOLDER))
