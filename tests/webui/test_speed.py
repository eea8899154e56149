"""What the extension costs the WebUI: at its start, and in whole requests. Run with -s to see the figures."""

from __future__ import annotations

import statistics
import time

import not_run
import pytest
from client import SCALE

ROUNDS, STEPS = 12, 20
OFF, ON = None, [True, "knife", "Fixed scale", 1, SCALE]
LOADING = "load scripts/growth_inhibitors.py"
AUTOMATIC = [True, "knife", "Automatic"]
SHOWN = [{"concepts": "knife", "adapter": "Fixed scale", "show_before": True}]
KEPT = [{"concepts": "knife", "adapter": "Fixed scale", "keep_composition": True}]


def test_start_is_not_held_up(webui):
    """Imports, the accordions, the tab, settings and routes. Not after a change of the files: Python compiles then."""
    records = webui.get("internal/profile-startup")["records"]
    if records.get("import torch", 0.0) < 0.05:
        pytest.skip(not_run.RELOADED_WEBUI)
    found = {"loading": records[LOADING], **webui.get("gie-test/seconds")}
    print("\nseconds of the start:", {name: round(seconds, 3) for name, seconds in found.items()})
    assert {"ui", "ui_tabs", "app_started"} < set(found)
    assert sum(found.values()) < 0.1


def seconds_of(webui, args) -> float:
    started = time.perf_counter()
    webui.txt2img(args=args, steps=STEPS, save_images=False)
    return time.perf_counter() - started


def test_whole_requests(webui, stock):
    """Without the extension, off, on: in turn, ratios pair by pair."""
    ways = {
        "without the extension": (stock, OFF), "off": (webui, OFF), "fixed scale": (webui, ON),
        "adapter": (webui, AUTOMATIC), "what it would have been": (webui, SHOWN), "keep composition": (webui, KEPT),
    }  # fmt: skip
    times: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(ROUNDS + 1):
        for name, (host, args) in ways.items():
            seconds = seconds_of(host, args)
            if number:
                times[name].append(seconds)
    base, found = times["without the extension"], {}
    for name, own in times.items():
        pairs = [a / b for a, b in zip(own, base, strict=True)]
        found[name] = statistics.median(pairs)
        print(f"\n{name}: {found[name]:.3f} ({min(pairs):.3f} to {max(pairs):.3f}) of the time without the extension, "
              f"{statistics.median(own):.3f} s", end="")  # fmt: skip
    print()
    assert found["off"] < 1.05
    assert found["fixed scale"] < 1.3  # of the demo model, whose layers are too small to hide anything
