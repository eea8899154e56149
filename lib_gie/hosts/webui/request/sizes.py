"""The sizes of a job's images, beside those at which the scales of what is enforced were found."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING, Any

from lib_gie.core.scales.scale_rules import FixedScale, Guarded, ScaleRule
from lib_gie.demo.fixed_scale import default_scale
from lib_gie.demo.sampling_settings import SIZE
from lib_gie.options import BY_NAME

from .parsing import Request

if TYPE_CHECKING:
    from lib_gie.core.call import Size

OTHER_SIZE = 1.25
"""The factor on the strength of what is enforced, in images of another size than its scale was found at.

Who writes a request chooses the size, too. The demo model leaves a knife in 5 of 16 images of 96x96 pixels at the scale
-1, which leaves it in 1 of 16 at 64x64; it leaves it in none at -1.2. A user's own concepts get no factor: the user is
told of the size, and can make the strength greater.
"""

_PIXELS = 8
"""Pixels of a latent's side."""

_UNKNOWN: Size = (0, 0)


def sizes_of(p: Any) -> set[Size]:
    """Return the sizes of the latents that a job samples, as far as they are known before it begins.

    The size of Hires. fix is not, so that it counts as one that no scale was found at.
    """
    found = {((getattr(p, "height", 0) or 0) // _PIXELS, (getattr(p, "width", 0) or 0) // _PIXELS)}
    return found | ({_UNKNOWN} if getattr(p, "enable_hr", False) else set())


def for_sizes(request: Request, rules: Iterable[ScaleRule], sizes: Collection[Size], base: str) -> Request:
    """Return what an admin enforces, stronger where a scale was found at another size than one of the images'."""
    known = {_found_at(rule, base) for rule in rules} - {None}
    if not any(size != found for size in sizes for found in known):
        return request
    most = BY_NAME["strength"].high
    return dataclasses.replace(request, strength=min(most, OTHER_SIZE * request.strength))


def _found_at(rule: ScaleRule, base: str) -> Size | None:
    """Return the size of latents that a scale was found at, None where it is for all or nobody knows."""
    if isinstance(rule, Guarded):
        return rule.readings[0].size if rule.readings else None
    is_demo_default = isinstance(rule, FixedScale) and base == "gie-demo" and rule.value == default_scale(base)
    return (SIZE // _PIXELS, SIZE // _PIXELS) if is_demo_default else None
