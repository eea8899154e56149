"""Registers everything with the WebUI. Nothing heavy is imported before it is used."""

from __future__ import annotations

from modules import script_callbacks

from . import guard
from .generation import on_cfg_denoiser
from .script import GrowthInhibitorsScript

__all__ = ["GrowthInhibitorsScript", "register"]


def _on_settings() -> None:
    from .settings import register

    register()


def _on_before_ui() -> None:
    from . import axes, page

    page.begin()
    axes.register()


def _on_ui_tabs() -> list:
    from .tab import build

    return build()


def _on_app_started(blocks, app) -> None:
    from .api import register

    guard.install_api()
    register(blocks, app)


def register() -> None:
    """Called whenever the WebUI loads its scripts (at start and at Reload UI)."""
    guard.install()
    script_callbacks.on_cfg_denoiser(on_cfg_denoiser, name="growth_inhibitors")
    script_callbacks.on_ui_settings(_on_settings, name="growth_inhibitors")
    script_callbacks.on_before_ui(_on_before_ui, name="growth_inhibitors")
    script_callbacks.on_ui_tabs(_on_ui_tabs, name="growth_inhibitors")
    script_callbacks.on_app_started(_on_app_started, name="growth_inhibitors")
