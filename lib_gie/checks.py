"""Checks of values that people give."""

from __future__ import annotations

import math

from .errors import OptionError


def number_from(name: str, value: float, low: float, high: float) -> float:
    """The value as a float. Raises OptionError where it is no number from ``low`` to ``high``."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise OptionError(f"{name} is {value!r}; it must be a number from {low:g} to {high:g}")
    if not low <= value <= high:
        raise OptionError(f"{name} is {value:g}; it must be from {low:g} to {high:g}")
    return float(value)
