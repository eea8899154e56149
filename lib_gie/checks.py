"""Checks of values that people give."""

from __future__ import annotations

import math
import reprlib
from typing import Any

from .errors import ErasureError, OptionError

MOST_QUOTED = 100
"""Characters of a value that a message quotes at most."""

_SHORT = reprlib.Repr()  # nothing long or deep is written out only to be cut
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = MOST_QUOTED


def quoted(value: Any) -> str:
    """A value as messages quote it: as Python writes it, cut after 100 characters."""
    if not isinstance(value, str):
        try:
            shown = _SHORT.repr(value)
        except ValueError:  # Python refuses to write out a number of thousands of digits
            shown = f"a long {type(value).__name__}"
        return shown if len(shown) <= MOST_QUOTED else f"{shown[:MOST_QUOTED]}…"
    shown = repr(value[: MOST_QUOTED + 1])
    return shown if len(shown) <= MOST_QUOTED + 2 else f"{shown[:MOST_QUOTED]}…{shown[-1]}"


def number_from(name: str, value: float, low: float, high: float) -> float:
    """The value as a float. Raises OptionError where it is no number from ``low`` to ``high``."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise OptionError(f"{name} is {quoted(value)}; it must be a number from {low:g} to {high:g}")
    if not low <= value <= high:
        raise OptionError(f"{name} is {value:g}; it must be from {low:g} to {high:g}")
    return float(value)


def check_prompt_draws_all(scale: float, weight: float, cfg: float) -> None:
    """Raise ErasureError where the negative prompt has a say in the image, as at a guidance below 1.

    ``scale``: what the sampler multiplies the prompt by, ``weight``: the sum of its parts' weights, ``cfg``: the CFG
    scale that the user knows.
    """
    if weight * scale < 1 - 1e-6:
        raise ErasureError(
            f"the CFG scale times the prompt's weights is below 1 (CFG scale {cfg:g}): then the negative prompt "
            f"draws a part of the image, which is never erased from. Use a CFG scale of 1 or more"
        )
