"""The best single fixed scale of the demo model, chosen on the validation split and committed with its figures."""

from __future__ import annotations

import json
from pathlib import Path

from ..errors import GieError
from ..options import DEFAULT_SCALE

PATH = Path(__file__).resolve().parents[2] / "models" / "demo" / "fixed_scale.json"


def load_fixed_scale() -> float:
    """The scale that ``python -m lib_gie evaluate --set validation --choose-scale`` has written."""
    if not PATH.exists():
        raise GieError(
            f"there is no models/demo/{PATH.name}: no scale has been chosen for the demo model; give --scale, or "
            f"run python -m lib_gie evaluate --set validation --choose-scale"
        )
    return float(json.loads(PATH.read_text(encoding="utf-8"))["scale"])


def default_scale(base: str) -> float:
    """The fixed scale of a model family where nothing else gives one."""
    return load_fixed_scale() if base == "gie-demo" else DEFAULT_SCALE


def save_fixed_scale(tried: list[dict]) -> float:
    """Record the scale with the least sum of errors, and the validation figures of all that were tried."""
    best = min(tried, key=lambda entry: entry["sum_of_errors"])["scale"]
    text = json.dumps({"scale": best, "chosen_on": "validation", "tried": tried}, indent=1)
    PATH.write_text(text + "\n", encoding="utf-8")
    return best
