"""How the tab's fields are built: their names on the page, and numbers in the ranges of a work order."""

from __future__ import annotations

from typing import Any

import gradio as gr

from .work_order import RANGES

PREFIX = "gie_train"


def named(kind: Any, name: str, *args: Any, **options: Any) -> Any:
    """Return a component with its name on the page."""
    return kind(*args, elem_id=f"{PREFIX}_{name}", **options)


def slider(name: str, value: float, label: str, **options: Any) -> Any:
    """Return a slider for one of a work order's numbers."""
    low, high, step = RANGES[name]
    return named(gr.Slider, name, low, high, value=value, step=step or 0.5, label=label, **options)


def step(name: str, title: str) -> Any:
    """Return the context in which the fields of one of the tab's steps are built, under its title."""
    column = named(gr.Column, f"step_{name}", elem_classes="gie-step")
    with column:
        gr.HTML(f"<h3 id='{PREFIX}_title_{name}'>{title}</h3>")
    return column


def line(name: str) -> Any:
    """Return the place where a step says what is wrong with it, and what it comes to."""
    return named(gr.HTML, name, "", elem_classes="gie-line")
