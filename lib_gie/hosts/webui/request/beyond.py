"""Sizes and guidance of an image, beyond those at which the scales of what is enforced were found."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from lib_gie.core.scales.scale_rules import FixedScale, Guarded, ScaleRule
from lib_gie.demo.fixed_scale import default_scale
from lib_gie.demo.sampling_settings import CFG, FAMILY, SIZE

if TYPE_CHECKING:
    from lib_gie.core.call import Size

BEYOND = 1.25
"""The factor on w of what is enforced, at another size of image than its scale was found at, once more at a greater CFG
scale (times the prompt's weight), and once more where prompt or model are not plain.

Who writes a request chooses all of these. Without the factor the demo model leaves a knife in more than one of 16
images at some of them (tests/webui/test_enforced_quality.py). A user's own concepts get no factor: the user is told of
another size and CFG scale, and can make the strength greater.
"""

_NOTICED = 1.001  # times greater; less is rounding


def factor(
    rules: Iterable[ScaleRule],
    base: str,
    size: Size,
    guidance: float,
    with_inversion: bool = False,
    is_plain: bool = True,
) -> float:
    """Return what w of an admin's concepts is multiplied by in one image: 1, or more beyond what a scale was found at.

    ``base``: model family; ``size``: of the latents, (height, width); ``guidance``: the CFG scale times the weights of
    the prompt's parts. ``with_inversion``: whether a textual inversion has a concept's name. It is erased beside the
    concept's words, of which a little less is taken away then. ``is_plain``: see ``PromptFacts.unlike``.
    """
    found = [_found_at(rule, base) for rule in rules]
    others = any(own is not None and size != own for own, _ in found)
    greater = any(cfg is not None and not guidance <= _NOTICED * cfg for _, cfg in found)  # NaN is greater, too
    return float(BEYOND ** (others + greater + with_inversion + (not is_plain)))


def _found_at(rule: ScaleRule, base: str) -> tuple[Size | None, float | None]:
    """Return the size of latents and the CFG scale that a scale was found at, None where nobody knows."""
    if isinstance(rule, Guarded):
        return (rule.readings[0].size if rule.readings else None), rule.adapter.info.conditions.get("cfg")
    if isinstance(rule, FixedScale) and base == FAMILY and rule.value == default_scale(base):
        return (SIZE // 8, SIZE // 8), CFG
    return None, None
