"""How to erase more where an image still shows a concept."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lib_gie.options import BY_NAME

NARROWING = ("start", "end", "hires", "keep_composition")
"""The options with which less is erased than at their defaults."""

_MORE = 0.5  # at least


def narrowed(values: Mapping[str, Any]) -> list[str]:
    """Return the names of the options with which less is erased. ``values``: of options by their names."""
    return [name for name in NARROWING if values.get(name, BY_NAME[name].default) != BY_NAME[name].default]


def greater_strength(strength: float) -> float | None:
    """Return the strength to try after this one: greater by its half, and by 0.5 at least; None after the greatest."""
    greatest = BY_NAME["strength"].high
    return None if strength >= greatest else min(greatest, round(strength + max(_MORE, strength * _MORE), 2))


def stronger_scale(scale: float) -> float | None:
    """Return the fixed scale to try next: stronger by its half, and by 0.5 at least; None after the strongest."""
    strongest = BY_NAME["scale"].low
    return None if scale <= strongest else max(strongest, round(scale - max(_MORE, -scale * _MORE), 2))
