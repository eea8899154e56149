"""The best single fixed scale of the demo model, chosen on the validation split and committed with its figures."""

from __future__ import annotations

import json

from lib_gie.assets import DEMO_FIXED_SCALE
from lib_gie.errors import GieError
from lib_gie.options import DEFAULT_SCALE


def load_fixed_scale() -> float:
    """Return the scale that ``python -m lib_gie evaluate --set validation --choose-scale`` has written.

    Raises GieError where none has been written.
    """
    if not DEMO_FIXED_SCALE.exists():
        raise GieError(
            "there is no models/demo/fixed_scale.json: no scale has been chosen for the demo model; give --scale, or "
            "run python -m lib_gie evaluate --set validation --choose-scale"
        )
    return float(json.loads(DEMO_FIXED_SCALE.read_text(encoding="utf-8"))["scale"])


def default_scale(base: str) -> float:
    """Return the fixed scale of a model family where nothing else gives one."""
    return load_fixed_scale() if base == "gie-demo" else DEFAULT_SCALE


def save_fixed_scale(tried: list[dict]) -> float:
    """Record the scale with the least sum of errors and the figures of all that were tried. Return that scale."""
    best = min(tried, key=lambda entry: entry["sum_of_errors"])["scale"]
    text = json.dumps({"scale": best, "chosen_on": "validation", "tried": tried}, indent=1)
    DEMO_FIXED_SCALE.write_text(text + "\n", encoding="utf-8")
    return best
