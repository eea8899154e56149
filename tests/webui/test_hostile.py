"""What the page's handlers are sent without the page: no file of the server comes back, nothing hangs or breaks.

Every handler whose fields are this extension's is called, whatever it is for.
"""

from __future__ import annotations

import json
import os
import time
import urllib.error
import urllib.request

import pytest

SECONDS = 20  # for one call; the machine may be busy
SECRET = "the server's own words"


@pytest.fixture(scope="module")
def handlers(webui) -> dict[str, tuple[int, int]]:
    """By name: number and how many values it takes."""
    config = webui.get("config")
    names = {part["id"]: str(part.get("props", {}).get("elem_id") or "") for part in config["components"]}
    found = {}
    for number, handler in enumerate(config["dependencies"]):
        fields = [names.get(target if isinstance(target, int) else target[0], "") for target in handler["targets"]]
        ours = [name for name in (*fields, *(names.get(part, "") for part in handler["inputs"])) if "gie_" in name]
        if ours and "setting_" not in ours[0]:
            found[f"{ours[0]}/{number}"] = (number, len(handler["inputs"]))
    return found


def send(webui, number: int, data, **more) -> tuple[int, str]:
    body = json.dumps({"fn_index": number, "data": data, "session_hash": "hostile", **more}).encode()
    request = urllib.request.Request(f"{webui.url}/run/predict", body, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=SECONDS) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except TimeoutError:
        return 0, "no answer"


def test_there_are_handlers(handlers):
    names = " ".join(handlers)
    for part in ("gie_txt2img_concepts", "gie_img2img_concepts", "gie_train_list", "gie_train_start", "gie_train_stop",
                 "gie_train_measure", "gie_train_pictures", "gie_train_all_show", "gie_train_check"):  # fmt: skip
        assert part in names


def test_no_file_of_the_server_is_read(webui, handlers):
    secret = webui.folder / "secret.txt"
    secret.write_text(SECRET)
    try:
        lists = [number for name, (number, _) in handlers.items() if name.startswith("gie_train_list/")]
        assert lists
        absolute = str(secret)[: -len(".txt")]
        for number in lists:
            assert "[unrelated" in send(webui, number, ["object"])[1]
            for up in range(12):
                name = "../" * up + absolute.strip("/")
                for path in (
                    name,
                    absolute,
                    f"{name}\0",
                    name.replace("/", os.sep * 2),
                    [absolute],
                    {"name": absolute},
                ):
                    status, text = send(webui, number, [path])
                    assert SECRET not in text
                    assert status != 200 or ("gie-error" in text and "[unrelated" not in text), path
    finally:
        secret.unlink()


VALUES = [
    None, True, "", "../../../../etc/passwd", " " * 1400 + '"x"y', '"' * 3000, "x" * 200_000, "\ud800", "\0", -1, 0,
    1e308, 10**30, [], [1], ["x"] * 50, {}, {"name": "/etc/passwd", "is_file": True, "data": None}, "[" * 20_000, "NaN",
]  # fmt: skip


def values_of(count: int) -> list[list]:
    """The same value in every place, and each in one place of an order that only lacks unrelated prompts."""
    good = ["umbrella", "", "an umbrella", "self", 4, 1, 2, "Euler", 4, 4.0, 64, 64, 1, False]
    found = [[value] * count for value in VALUES]
    if count == len(good):
        for place in range(count):
            found += [[*good[:place], value, *good[place + 1 :]] for value in (None, "../x", -1, [], "x" * 10_000)]
    return found


def test_no_value_holds_the_server_up(webui, handlers):
    """Each is answered soon, be it with an error, and the server goes on."""
    slow = []
    for name, (number, count) in handlers.items():
        if not count or name.startswith(("gie_train_start/", "gie_train_measure/", "gie_train_refresh/")):
            continue
        for data in values_of(count):
            started = time.monotonic()
            _, text = send(webui, number, data)
            if time.monotonic() - started > SECONDS / 2:
                slow.append((name, str(data)[:80]))
            assert "root:" not in text
            assert len(text) < 400_000
    assert not slow


def test_no_bad_order_begins(webui, handlers):
    numbers = [found for name, found in handlers.items() if name.startswith(("gie_train_start/", "gie_train_measure/"))]
    assert len(numbers) == 2
    for number, count in numbers:
        for data in values_of(count):
            text = send(webui, number, data)[1]
            assert "gie-running" not in text, str(data)[:200]


@pytest.mark.parametrize("index", [None, -1, 0, 10**9, 1.5, "0", [0, 0], {}, True])
def test_clicks_on_no_picture(webui, handlers, index):
    for name, (number, _) in handlers.items():
        if name.startswith("gie_train_pictures/"):
            for event in ({"index": index, "value": "x"}, {"index": index}, {}, None, [index]):
                send(webui, number, [], event_data=event)
    assert webui.get("internal/ping") == {}


def test_images_are_made_as_before(webui):
    assert len(webui.txt2img().images) == 1
