"""What ``erase`` says where a detector still sees in an image what was to be erased."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from lib_gie.demo.fixed_scale import default_scale
from lib_gie.demo.sampling_settings import FAMILY
from lib_gie.demo.words import MISTAKEN, thing_named
from lib_gie.stronger import greater_strength, narrowed, stronger_scale


def shows(concept: str, seen: Mapping[str, Any], when: str) -> bool:
    """Tell whether what a concept names is among the objects and styles that were seen ("before" or "after")."""
    return thing_named(concept) in [*seen[f"objects_{when}"], *seen[f"styles_{when}"]]


def next_steps(report: Mapping[str, Any], options: argparse.Namespace) -> list[str]:
    """Say of each concept that still shows what to do, and of which nobody can tell.

    ``report``: the command's JSON object. ``options``: the command's.
    """
    found = []
    for concept in report["concepts"]:
        text = concept["text"]
        thing = thing_named(text)
        if thing is None:
            found.append(f"{text}: the detector has no name for it; look whether the pictures show it")
            continue
        left = [number for number, image in enumerate(report["images"]) if shows(text, image, "after")]
        if left:
            found += [f"{text} still shows: {advice}" for advice in _advice(concept, left, options)]
        if left and thing in MISTAKEN:
            found.append(f"{text}: the detector takes many a blurred picture for it; look at the pictures first")
    return found


def _advice(concept: Mapping[str, Any], left: list[int], options: argparse.Namespace) -> list[str]:
    """Return what to do about the images ``left`` that show a concept."""
    if concept["weight"] * options.strength == 0:
        return ["its weight or --strength is 0, which erases nothing"]
    without = [number for number in left if not any(concept["scales"][number])]
    fixed = f"--scale {default_scale(FAMILY):g}"
    found = [f"in {len(without)} of the images its scale was 0; try {fixed} and no --adapter"] if without else []
    if len(without) == len(left):
        return found
    wider = _wider(concept["weight"], options)
    if wider:
        return [*found, f"try it {wider}, so that more is erased"]
    spoilt = ", or another seed if the rest is spoilt" if options.strength > 1 else ""
    greater = greater_strength(options.strength)
    if greater is not None:
        return [*found, f"try --strength {greater:g}{spoilt}"]
    stronger = stronger_scale(min(min(concept["scales"][number]) / concept["weight"] for number in left))
    if stronger is not None:
        others = "--strength and --adapter" if options.adapter else "--strength"
        return [*found, f"no greater --strength is possible; try --scale {stronger:g} in place of {others}{spoilt}"]
    return [*found, "neither a greater --strength nor a stronger --scale is possible; try another seed"]


def _wider(weight: float, options: argparse.Namespace) -> str:
    """Say which options leave something unerased that their defaults would not; "" where none does."""
    without = [f"--{name.replace('_', '-')}" for name in narrowed(vars(options))]
    more = ["a weight of 1"] if weight < 1 else []
    if options.strength < 1 and (without or more):
        more.append("--strength 1")
    parts = [("without", without), ("with", more)]
    return " and ".join(f"{word} {' and '.join(names)}" for word, names in parts if names)
