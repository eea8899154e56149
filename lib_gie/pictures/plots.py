"""Matplotlib without its global state, which belongs to the host."""

from __future__ import annotations

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image


def new_figure(width: float, height: float) -> Figure:
    """Return a figure of this size in inches, at 100 pixels each."""
    return Figure(figsize=(width, height), dpi=100, layout="constrained")


def picture_of(figure: Figure) -> Image.Image:
    """Draw the figure."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3].copy())
