"""How to erase more where an image still shows a concept."""

from __future__ import annotations

from lib_gie.options import BY_NAME

_MORE = 0.5  # at least


def greater_strength(strength: float) -> float | None:
    """Return the strength to try after this one: greater by its half, and by 0.5 at least; None after the greatest."""
    greatest = BY_NAME["strength"].high
    return None if strength >= greatest else min(greatest, round(strength + max(_MORE, strength * _MORE), 2))


def stronger_scale(scale: float) -> float | None:
    """Return the fixed scale to try next: stronger by its half, and by 0.5 at least; None after the strongest."""
    strongest = BY_NAME["scale"].low
    return None if scale <= strongest else max(strongest, round(scale - max(_MORE, -scale * _MORE), 2))
