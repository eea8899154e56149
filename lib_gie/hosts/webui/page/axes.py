"""Axes of the X/Y/Z plot: one for each option that has one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from modules import scripts

from lib_gie.hosts.webui.guard import OVERRIDES
from lib_gie.options import OPTIONS, Option


def _apply(option: Option) -> Callable:
    def apply(p: Any, value: Any, values: Any) -> None:
        if option.kind == "flag":
            value = _flag(value)
        setattr(p, OVERRIDES, {**getattr(p, OVERRIDES, {}), option.name: value})

    return apply


def _flag(text: str) -> bool | str:
    """What is neither stays a text, which the option refuses with a message of its own."""
    return {"true": True, "false": False}.get(str(text).strip().lower(), text)


def _choices(option: Option) -> Callable | None:
    if option.kind == "choice":
        return lambda: list(option.choices)
    if option.kind == "flag":
        return lambda: ["True", "False"]
    if option.kind == "adapter":
        from .accordion import adapter_names

        return adapter_names
    return None


def _plot_module() -> Any | None:
    modules = (data.module for data in scripts.scripts_data)
    return next((module for module in modules if str(getattr(module, "__file__", "")).endswith("xyz_grid.py")), None)


def register() -> None:
    """The WebUI's on_before_ui callback; adds each axis once, also after Reload UI."""
    plot = _plot_module()
    if plot is None:
        return
    known = {axis.label for axis in plot.axis_options}
    for option in OPTIONS:
        label = f"[GIE] {option.label}"
        if option.axis and label not in known:
            kind = float if option.kind == "number" else str
            plot.axis_options.append(plot.AxisOption(label, kind, _apply(option), choices=_choices(option)))
