"""A plot of what erasure costs beside the model alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from PIL import Image

from .plots import new_figure, picture_of

Series = Sequence[tuple[int, float, float, float]]
"""Value, median ratio, least and greatest."""


def growth_plot(axes: Mapping[str, Series], title: str) -> Image.Image:
    """Plot the time with erasure over the time without, one panel per axis."""
    figure = new_figure(3.4 * len(axes), 3.0)
    figure.suptitle(title, fontsize="medium")
    panels = figure.subplots(1, len(axes), sharey=True, squeeze=False)[0]
    for panel, (name, series) in zip(panels, axes.items(), strict=True):
        values, medians, least, greatest = zip(*series, strict=True)
        panel.fill_between(values, least, greatest, color="tab:blue", alpha=0.2, linewidth=0)
        panel.plot(values, medians, "o-", color="tab:blue", markersize=4)
        panel.axhline(1, color="lightgray", zorder=0)
        panel.set(xlabel=name, xticks=values)
    panels[0].set_ylabel("time over stock")
    return picture_of(figure)
