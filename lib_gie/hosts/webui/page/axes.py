"""The axes of the X/Y/Z plot: one for each option that has one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from modules import scripts

from lib_gie.hosts.webui.request.asked import override
from lib_gie.hosts.webui.request.installed import adapter_names
from lib_gie.options import OPTIONS, Option


def _apply(option: Option) -> Callable:
    def apply(p: Any, value: Any, values: Any) -> None:
        override(p, option.name, _flag(value) if option.kind == "flag" else value)

    return apply


def _flag(text: str) -> bool | str:
    """Return the truth value that a text names. Any other text is returned as it is, and the option refuses it."""
    return {"true": True, "false": False}.get(str(text).strip().lower(), text)


def _choices(option: Option) -> Callable | None:
    if option.kind == "choice":
        return lambda: list(option.choices)
    if option.kind == "flag":
        return lambda: ["True", "False"]
    if option.kind == "adapter":
        return adapter_names
    return None


def _plot_module() -> Any | None:
    modules = (data.module for data in scripts.scripts_data)
    return next((module for module in modules if str(getattr(module, "__file__", "")).endswith("xyz_grid.py")), None)


def add_axes() -> None:
    """Add each axis once, also after Reload UI: the WebUI's on_before_ui callback."""
    plot = _plot_module()
    if plot is None:
        return
    known = {axis.label for axis in plot.axis_options}
    for option in OPTIONS:
        label = f"[GIE] {option.label}"
        if option.axis and label not in known:
            kind = float if option.kind == "number" else str
            plot.axis_options.append(plot.AxisOption(label, kind, _apply(option), choices=_choices(option)))
