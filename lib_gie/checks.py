"""Checks of values that people give."""

from __future__ import annotations

import math
import reprlib
from collections.abc import Sequence
from typing import Any

from .errors import ErasureError, OptionError

MOST_QUOTED = 100
"""Characters of a value that a message quotes at most."""

_SHORT = reprlib.Repr()  # nothing long or deep is written out only to be cut
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = MOST_QUOTED


def quoted(value: Any) -> str:
    """Return a value as messages quote it: as Python writes it, cut after 100 characters."""
    if not isinstance(value, str):
        try:
            shown = _SHORT.repr(value)
        except ValueError:  # Python refuses to write out a number of thousands of digits
            shown = f"a long {type(value).__name__}"
        return shown if len(shown) <= MOST_QUOTED else f"{shown[:MOST_QUOTED]}…"
    shown = repr(value[: MOST_QUOTED + 1])
    return shown if len(shown) <= MOST_QUOTED + 2 else f"{shown[:MOST_QUOTED]}…{shown[-1]}"


def number_from(name: str, value: float, low: float, high: float) -> float:
    """Return the value as a float. Raises OptionError where it is no number from ``low`` to ``high``."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise OptionError(f"{name} is {quoted(value)}; it must be a number from {low:g} to {high:g}")
    if not low <= value <= high:
        raise OptionError(f"{name} is {value:g}; it must be from {low:g} to {high:g}")
    return float(value)


_LEAST_GUIDANCE = 1 - 1e-6
"""The least CFG scale at which the prompt draws all of the image, less what rounding may take away."""


def check_prompt_draws_all(scale: float, weights: Sequence[float], cfg: float, total: float | None = None) -> None:
    """Raise ErasureError where the negative prompt has a say in an image, or where it is unknown what has.

    ``scale``: what the sampler multiplies the prompt by; ``weights``: those of the parts of the prompt's AND, in their
    order; ``cfg``: the CFG scale that the user knows; ``total``: what is drawn of all parts, if not the weights' sum.
    """
    total = sum(weights) if total is None else total
    if not all(map(math.isfinite, (scale, total, *weights))):
        raise ErasureError(
            f"the CFG scale ({cfg:g}) or a weight in the prompt's AND is no finite number, so it is unknown what draws "
            f"the image. Use a CFG scale of 1 or more and small weights"
        )
    if scale < _LEAST_GUIDANCE or total * scale < _LEAST_GUIDANCE:
        raise ErasureError(
            f"the CFG scale times the prompt's weights is below 1, or the CFG scale itself is (CFG scale {cfg:g}): "
            f"then the negative prompt draws a part of the image, which is never erased from. Use a CFG scale of 1 or "
            f"more"
        )
    if weights[0] < 0:
        raise ErasureError(
            f"the first part of the prompt's AND has the weight {weights[0]:g}: it is pushed away, so it is not erased "
            f"from, but what is shown while the image is made, or after an interrupt, is made of it. Put a part first "
            f"that has a positive weight"
        )
