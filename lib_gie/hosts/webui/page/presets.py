"""The presets of the page: the setting that holds them, and the buttons that fill in their concepts."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import gradio as gr
from modules import shared

from lib_gie.errors import OptionError
from lib_gie.hosts.presets import Preset, read_presets
from lib_gie.hosts.webui.host.chosen import HOST
from lib_gie.hosts.webui.request.parsing import TITLE

SETTING = "gie_presets"


def offered_presets() -> tuple[Preset, ...]:
    """Return the presets of the setting, or the host's own where a settings file holds what cannot be read."""
    try:
        return read_presets(getattr(shared.opts, SETTING, HOST.presets))
    except OptionError as error:
        print(f"{TITLE}: the setting {SETTING} cannot be used: {error}. The usual presets are shown", file=sys.stderr)
        return read_presets(HOST.presets)


def check_setting() -> None:
    """Tell the user of a line that cannot be read, and raise OptionError: the WebUI puts the old value back then."""
    try:
        read_presets(getattr(shared.opts, SETTING))
    except OptionError as error:
        gr.Warning(f"The presets stay as they were: {error}")  # the WebUI tells the console alone of an error
        raise


def _fill(preset: Preset, text: Any) -> str:
    return preset.added_to(text if isinstance(text, str) else "")


def preset_buttons(concepts: Any, prefix: str) -> None:
    """Build a button for each preset, which adds the preset's concepts to the component ``concepts``."""
    buttons_of_presets(prefix, _fill, [concepts], [concepts])


def buttons_of_presets(prefix: str, press: Callable[..., Any], inputs: Sequence[Any], outputs: Sequence[Any]) -> None:
    """Build a button for each preset. ``press``: is given the preset and the inputs' values, and returns the outputs'.

    ``prefix``: of the buttons' elem_ids.
    """
    presets = offered_presets()
    if not presets:
        return
    with gr.Row(elem_id=f"{prefix}_presets", elem_classes="gie-presets"):
        for number, preset in enumerate(presets):
            button = gr.Button(preset.name, size="sm", elem_id=f"{prefix}_preset_{number}", min_width=0)
            button.do_not_save_to_config = True  # its text is the setting's, and no default of the page
            button.click(partial(press, preset), list(inputs), list(outputs), show_progress=False, queue=False)
