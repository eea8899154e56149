"""What ``erase`` says where a detector still sees in an image what was to be erased."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lib_gie.demo.fixed_scale import default_scale
from lib_gie.demo.sampling_settings import FAMILY
from lib_gie.options import BY_NAME

_MORE = 0.5  # of the strength, at least


def shows(concept: str, seen: Mapping[str, Any], when: str) -> bool:
    """Tell whether a concept is among the objects and styles that were seen ("before" or "after")."""
    return concept in [*seen[f"objects_{when}"], *seen[f"styles_{when}"]]


def next_steps(report: Mapping[str, Any], strength: float) -> list[str]:
    """Say of each concept that still shows what to do.

    ``report``: the command's JSON object. ``strength``: the option, by which scales were multiplied.
    """
    found = []
    for concept in report["concepts"]:
        left = [number for number, image in enumerate(report["images"]) if shows(concept["text"], image, "after")]
        if left:
            found += [f"{concept['text']} still shows: {advice}" for advice in _advice(concept, left, strength)]
    return found


def _advice(concept: Mapping[str, Any], left: list[int], strength: float) -> list[str]:
    """Return what to do about the images ``left`` that show a concept."""
    if concept["weight"] * strength == 0:
        return ["its weight or --strength is 0, which erases nothing"]
    without = [number for number in left if not any(concept["scales"][number])]
    fixed = f"--scale {default_scale(FAMILY):g}"
    found = [f"in {len(without)} of the images its scale was 0; try {fixed} and no --adapter"] if without else []
    if len(without) == len(left):
        return found
    greatest = BY_NAME["strength"].high
    if strength >= greatest:
        return [*found, "no greater --strength is possible; try a stronger --scale than this, and no --adapter"]
    return [*found, f"try --strength {min(greatest, strength + max(_MORE, strength * _MORE)):g}"]
