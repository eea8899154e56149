"""A plot of how well an adapter has learnt: predicted against labelled scales."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image

from .plots import new_figure, picture_of

Point = tuple[float, float, bool]
"""One prompt: labelled scale, predicted scale, whether it was kept for validation."""

_PARTS = ((False, "tab:gray", "fitted on"), (True, "tab:red", "kept for validation"))


def scatter(points: Sequence[Point], title: str = "") -> Image.Image:
    """Plot all points. Labels lie on a grid, so dots are spread sideways to show how many there are."""
    figure = new_figure(5.2, 5.2)
    axes = figure.add_subplot()
    low = min([-0.1, *(value for point in points for value in point[:2])])
    axes.plot((low, 0), (low, 0), color="lightgray")
    spread = np.random.default_rng(0)
    for held, colour, text in _PARTS:
        part = np.array([point[:2] for point in points if point[2] == held]).reshape(-1, 2)  # [prompts, 2]
        aside = spread.uniform(-0.015, 0.015, len(part)) * abs(low)  # [prompts]
        axes.scatter(
            part[:, 0] + aside, part[:, 1], s=14, color=colour, alpha=0.6, label=f"{text}: {len(part)} prompts"
        )
    axes.set(xlabel="labelled scale", ylabel="predicted scale", title=title, aspect="equal")
    axes.legend(loc="upper left", fontsize="small")
    return picture_of(figure)
