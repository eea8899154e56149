"""How images are usually sampled with a model family."""

from __future__ import annotations

from typing import Any

from lib_gie.demo import sampling_settings as demo

_SIDES = {"sd2": 768, "sdxl": 1024, "sdxl-refiner": 1024}
"""The width and height in pixels that a family was trained at, where it is not 512."""


def usual_sampling(base: str) -> dict[str, Any]:
    """Return the side of an image in pixels, the steps and the guidance that suit a model family."""
    if base == demo.FAMILY:
        return {"side": demo.SIZE, "steps": demo.STEPS, "cfg": demo.CFG}
    return {"side": _SIDES.get(base, 512), "steps": 20, "cfg": 7.0}


def is_usual(side: Any, steps: Any, cfg: Any) -> bool:
    """Tell whether these are usual for some model family, so that probably nobody has chosen them."""
    families = ("sd1", demo.FAMILY, *_SIDES)
    return {"side": side, "steps": steps, "cfg": cfg} in [usual_sampling(family) for family in families]
