"""Checks of values that people give."""

from __future__ import annotations

import math
from collections.abc import Sequence

from .errors import ErasureError, OptionError


def number_from(name: str, value: float, low: float, high: float) -> float:
    """The value as a float. Raises OptionError where it is no number from ``low`` to ``high``."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise OptionError(f"{name} is {value!r}; it must be a number from {low:g} to {high:g}")
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
