"""Registers everything with the WebUI. Nothing heavy is imported before it is used."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from modules import script_callbacks

from . import guard
from .host.chosen import HOST
from .page import script
from .shown.readout import watch_results

__all__ = ["GrowthInhibitorsScript", "register"]

_RESULTS = ("txt2img_gallery", "img2img_gallery", "download_files_", "html_log_", "generation_info_")
"""How the elem_ids of the components begin that a tab's results are shown in."""

# the WebUI offers every script class that it finds
GrowthInhibitorsScript = script.GrowthInhibitorsScript if HOST.refusal is None else None


def _on_cfg_denoiser(params: Any) -> None:
    from .sampling.erased_generation import on_cfg_denoiser

    on_cfg_denoiser(params)


def _on_settings() -> None:
    from .page.settings import add_settings

    add_settings()


def _on_before_ui() -> None:
    from .page import accordion, axes

    accordion.begin()
    axes.add_axes()


def _on_ui_tabs() -> list[Any]:
    from .request.enforcement import tab_is_wanted

    if not tab_is_wanted():  # nothing of it is there then, its handlers neither
        return []
    from .training.tab import build_tab

    return build_tab()


def _on_app_started(blocks: Any, app: Any) -> None:
    from .page.api import add_routes

    guard.install_api()
    add_routes(blocks, app)


def _on_after_component(component: Any, **kwargs: Any) -> None:
    name = str(kwargs.get("elem_id"))
    if name.startswith("generation_info_"):
        watch_results(component, **kwargs)
    if name.startswith(_RESULTS):
        from .page.beside_gallery import place_beside

        place_beside(component, **kwargs)
    elif name.endswith("2img_prompt"):
        from .page.accordion import place_notice

        place_notice(component, **kwargs)


def _on_infotext_pasted(infotext: str, params: dict[str, Any]) -> None:
    from .page.pasted import on_infotext_pasted

    on_infotext_pasted(infotext, params)


def _on(category: str, function: Callable[..., Any]) -> None:
    """Do what ``script_callbacks.on_<category>`` does, without its search of the stack for the caller's file."""
    callbacks = script_callbacks.callback_map[f"callbacks_{category}"]
    script_callbacks.add_callback(callbacks, function, name="growth_inhibitors", category=category, filename=__file__)


def register() -> None:
    """Register everything, whenever the WebUI loads its scripts (at the start and at Reload UI)."""
    if HOST.refusal is not None:
        print(HOST.refusal, file=sys.stderr)
        guard.install_refusal(HOST.refusal)
        return
    guard.install()
    _on("cfg_denoiser", _on_cfg_denoiser)
    _on("ui_settings", _on_settings)
    _on("before_ui", _on_before_ui)
    _on("after_component", _on_after_component)
    _on("infotext_pasted", _on_infotext_pasted)
    if HOST.trains_adapters:
        _on("ui_tabs", _on_ui_tabs)
    _on("app_started", _on_app_started)
