"""The growth of erasure's cost with concepts, pixels and images at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

from .sampler import Sampler, Setting
from .speed import Ratio, alternate, ratios
from .variants import Variant, growth_inhibitors, stock

CONCEPTS = (1, 2, 4, 8, 16)
PIXELS = (256, 384, 512)
BATCHES = (1, 2, 4)


@dataclass(frozen=True)
class Point:
    """Time with erasure over time without, where ``axis`` ("concepts", "pixels" or "images at once") is ``value``."""

    axis: str
    value: int
    ratio: Ratio


def _measure(sampler: Sampler, setting: Setting, counts: Sequence[int], rounds: int, label: str) -> dict[int, Ratio]:
    """Return the ratios by number of concepts."""
    sampler.use(setting)
    variants: dict[str, Variant] = {str(count): partial(growth_inhibitors, count=count) for count in counts}
    found = ratios(alternate(sampler, {"stock": stock, **variants}, rounds, label).times)
    return {count: found[str(count)] for count in counts}


def growth(sampler: Sampler, rounds: int) -> list[Point]:
    """Vary each axis alone. The others are one concept, the setting's pixels and one image."""
    setting = sampler.setting
    points = [
        Point("concepts", count, ratio)
        for count, ratio in _measure(sampler, setting, CONCEPTS, rounds, "concepts").items()
    ]
    for pixels in PIXELS:
        found = _measure(sampler, replace(setting, pixels=pixels), (1,), rounds, f"{pixels} pixels")
        points.append(Point("pixels", pixels, found[1]))
    for batch in BATCHES:
        found = _measure(sampler, replace(setting, batch=batch), (1,), rounds, f"{batch} at once")
        points.append(Point("images at once", batch, found[1]))
    return points
