"""What the extension costs the WebUI: at its start, and in whole requests. Run with -s to see the figures."""

from __future__ import annotations

import statistics
import time

import pytest
from client import SCALE

ROUNDS, STEPS = 12, 20
OFF, ON = None, [True, "knife", "Fixed scale", 1, SCALE]
LOADING = "load scripts/growth_inhibitors.py"
AUTOMATIC = [True, "knife", "Automatic"]


def records(webui) -> dict[str, float]:
    """Seconds of each part of the WebUI's last start (or Reload UI)."""
    return webui.get("internal/profile-startup")["records"]


def test_start_is_not_held_up(webui):
    """Its modules that are imported at the start. "create ui" has the pages of all extensions and is compared below."""
    found = records(webui)
    if found.get("import torch", 0) < 0.05:
        pytest.skip("the WebUI has reloaded its UI since its start; start it anew for this test")
    own = {name: found[name] for name in (LOADING, "app_started_callback/start.py")}
    print("\nseconds of the start:", {name: round(seconds, 3) for name, seconds in own.items()})
    assert sum(own.values()) < 0.1, "started for the first time since its files changed? Python compiles them then"


def seconds_of(webui, args) -> float:
    started = time.perf_counter()
    webui.txt2img(args=args, steps=STEPS, save_images=False)
    return time.perf_counter() - started


def test_whole_requests(webui, stock):
    """Without the extension, off, on: in turn, ratios pair by pair."""
    ways = {
        "without the extension": (stock, OFF), "off": (webui, OFF), "fixed scale": (webui, ON),
        "adapter": (webui, AUTOMATIC),
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
