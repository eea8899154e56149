"""The best single fixed scale of the demo model, chosen on the validation split and committed with its figures."""

from __future__ import annotations

import json

from lib_gie.assets import DEMO_FIXED_SCALE
from lib_gie.demo.sampling_settings import FAMILY
from lib_gie.errors import GieError
from lib_gie.options import DEFAULT_SCALE

MOST_LEFT = 0.05
"""Share of images in which the chosen scale may leave the concept. The sum of errors alone takes a scale that spares
unrelated images by leaving more of the concept; but this scale is what erases where nothing else is known."""


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
    return load_fixed_scale() if base == FAMILY else DEFAULT_SCALE


def save_fixed_scale(tried: list[dict]) -> float:
    """Record the best scale and the figures of all that were tried. Return that scale.

    It is the one with the least sum of errors among those that leave at most MOST_LEFT of named and of implied prompts.
    Where none leaves so little, it is the one that leaves least.
    """
    enough = [entry for entry in tried if _left(entry) <= MOST_LEFT]
    best = min(enough, key=lambda entry: entry["sum_of_errors"]) if enough else min(tried, key=_left)
    text = json.dumps({"scale": best["scale"], "chosen_on": "validation", "tried": tried}, indent=1)
    DEMO_FIXED_SCALE.write_text(text + "\n", encoding="utf-8")
    return best["scale"]


def _left(entry: dict) -> float:
    """Return the larger share of images in which the concept is left, of named and of implied prompts; 0 to 1.

    What was not measured counts as left.
    """
    found = [row["left"] for row in entry["rows"] if row["prompts"] in ("named", "implied")]
    return max((1.0 if share is None else share for share in found), default=1.0)
