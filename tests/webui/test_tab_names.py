"""Whose place an adapter trained in the tab may take, without a browser: the tab's handlers are called by number."""

from __future__ import annotations

import hashlib
import time

import pytest
from test_hostile import handlers, send  # noqa: F401

from lib_gie.core.scales.adapter import load_adapter

CONCEPT, NAME = "umbrella", "names-umbrella"
PROMPTS = "\n".join(
    ["an umbrella", "a cat and an umbrella", "[unrelated]", *(f"a {name}" for name in ("cat", "dog", "fish", "car"))]
)


def order(name: str = NAME, concept: str = CONCEPT, replace: bool = False) -> list:
    return [concept, name, PROMPTS, "self", 4, 1, 2, "Euler", 4, 4.0, 64, 64, 4, replace]


@pytest.fixture
def start(webui, handlers):  # noqa: F811
    """Presses Train; what the page says in the end."""
    number = next(found for name, (found, _) in handlers.items() if name.startswith("gie_train_start/"))
    watch = next(found for name, (found, _) in handlers.items() if name.startswith("gie_train_watch/"))

    def press(values: list) -> str:
        _, text = send(webui, number, values)
        until = time.monotonic() + 300
        while "gie-running" in text and time.monotonic() < until:
            time.sleep(2)
            _, text = send(webui, watch, [])
        return text

    return press


def contents(webui) -> dict[str, str]:
    files = [*webui.folder.glob("models/growth-inhibitors/*.safetensors")]
    files += webui.folder.glob("extensions/*/models/*.safetensors")
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.mark.parametrize(
    ("name", "says"),
    [("demo-beer", "own folder models"), ("DEMO-Beer", "own folder models"), ("../x", "give a plain one"),
     ("con", "give a plain one"), ("automatic", "give a plain one")],
)  # fmt: skip
def test_names_that_are_not_free(webui, start, name, says):
    before = contents(webui)
    for replace in (False, True):
        assert says in start(order(name, replace=replace))
    assert contents(webui) == before


def test_ones_own_is_replaced_when_that_is_said(webui, start):
    path = webui.folder / "models" / "growth-inhibitors" / f"{NAME}.safetensors"
    path.unlink(missing_ok=True)
    try:
        assert "is trained" in start(order())
        assert load_adapter(path).info.training["trained_in"] == "tab"
        before = contents(webui)
        assert "tick &#x27;Replace&#x27;" in start(order())
        for other in ("Names-Umbrella", "NAMES-UMBRELLA"):
            assert "another adapter" in start(order(other, replace=True))
        assert "another adapter" in start(order(concept="bicycle", replace=True))
        assert contents(webui) == before
        assert "is trained" in start(order(replace=True))
    finally:
        path.unlink(missing_ok=True)
