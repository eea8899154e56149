"""Sizes and CFG scales of a job, beyond those at which the scales of what is enforced were found."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lib_gie.core.scales.scale_rules import FixedScale, Guarded, ScaleRule
from lib_gie.demo.fixed_scale import default_scale
from lib_gie.demo.sampling_settings import CFG, SIZE
from lib_gie.options import BY_NAME

from .parsing import Request

if TYPE_CHECKING:
    from lib_gie.core.call import Size

BEYOND = 1.25
"""The factor on the strength of what is enforced, at another size of image than its scale was found at.

It counts once more at a greater CFG scale. Who writes a request chooses both. Without the factor the demo model leaves
a knife in more than one of 16 images at some sizes and CFG scales (tests/webui/test_enforced_quality.py).
A user's own concepts get no factor: the user is told of another size and CFG scale, and can make the strength greater.
"""

_PIXELS = 8
"""Pixels of a latent's side."""

_UNKNOWN: Size = (0, 0)


@dataclass(frozen=True)
class Asked:
    """The sizes of the latents that a job samples, (height, width), and its CFG scale.

    The size of Hires. fix is not known before the job begins, so that it counts as one that no scale was found at.
    """

    sizes: frozenset[Size]
    cfg: float

    @classmethod
    def of(cls, p: Any) -> Asked:
        """Return what a job ``p`` asks for."""
        height, width, cfg = (getattr(p, name, None) or 0 for name in ("height", "width", "cfg_scale"))
        second = getattr(p, "hr_cfg", None) or 0 if getattr(p, "enable_hr", False) else 0
        sizes = {(height // _PIXELS, width // _PIXELS)} | ({_UNKNOWN} if getattr(p, "enable_hr", False) else set())
        return cls(frozenset(sizes), max(cfg, second))


def strengthened(
    request: Request, rules: Iterable[ScaleRule], asked: Asked, base: str, with_inversion: bool = False
) -> Request:
    """Return what an admin enforces on a job, stronger where the job goes beyond what a scale was found at.

    ``with_inversion``: whether a textual inversion has a concept's name. It is erased beside the concept's words, of
    which a little less is taken away then.
    """
    found = [_found_at(rule, base) for rule in rules]
    others = any(size is not None and asked.sizes != {size} for size, _ in found)
    greater = any(cfg is not None and asked.cfg > cfg for _, cfg in found)
    strength = request.strength * BEYOND ** (others + greater + with_inversion)
    return dataclasses.replace(request, strength=max(request.strength, min(BY_NAME["strength"].high, strength)))


def _found_at(rule: ScaleRule, base: str) -> tuple[Size | None, float | None]:
    """Return the size of latents and the CFG scale that a scale was found at, None where nobody knows."""
    if isinstance(rule, Guarded):
        return (rule.readings[0].size if rule.readings else None), rule.adapter.info.conditions.get("cfg")
    if isinstance(rule, FixedScale) and base == "gie-demo" and rule.value == default_scale(base):
        return (SIZE // _PIXELS, SIZE // _PIXELS), CFG
    return None, None
