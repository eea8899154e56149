"""The accordion: its fields and what they say."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import Any

import gradio as gr
from modules.infotext_utils import PasteField
from modules.ui_common import create_refresh_button
from modules.ui_components import InputAccordion

from lib_gie.hosts.webui.request.enforcement import enforced_text
from lib_gie.hosts.webui.request.installed import adapter_names
from lib_gie.hosts.webui.request.parsing import TITLE
from lib_gie.hosts.webui.shown.readout import add_holder, presence_of, refresh_afterwards
from lib_gie.options import BY_NAME, OPTIONS, Option

from . import beside_gallery
from .concept_lines import concept_lines
from .current import keep_current, told_of_change
from .layout import ADVANCED, HEADER, SIMPLE, is_without_effect, page_data
from .pasted import paste_fields
from .presets import preset_buttons

_dropdowns: list[Any] = []  # the adapter fields of the page that is shown

_notices: dict[str, Any] = {}
"""By tab the component that says what is wrong with a pasted infotext."""

_PROMPTS = ("txt2img_prompt", "img2img_prompt")


def _notice_holder(tab: str) -> Any:
    return gr.HTML("", elem_id=f"gie_{tab}_notice", elem_classes="gie-notice", visible=False)


def adapter_dropdowns() -> list[Any]:
    """Return the adapter fields of the page that is shown: txt2img's and img2img's."""
    return list(_dropdowns)


def place_notice(component: Any, elem_id: str | None = None, **unused: Any) -> None:
    """Put the notice about a pasted infotext right after the prompt: the WebUI's on_after_component callback.

    In the accordion nobody would see it.
    """
    tab = str(elem_id or "").removesuffix("_prompt")
    if elem_id in _PROMPTS and tab not in _notices:
        _notices[tab] = _notice_holder(tab)


def begin() -> None:
    """Forget the components of the page before: called when a page is about to be built, also at Reload UI."""
    _dropdowns.clear()
    _notices.clear()
    beside_gallery.begin()


def enforced_note() -> str:
    """Return what the accordion says about concepts that are always erased here."""
    text = enforced_text()
    return f"Always erased on this WebUI: <b>{html.escape(text)}</b>" if text else ""


def _field(option: Option, prefix: str, hidden: bool = False) -> Any:
    common = {"label": option.label, "elem_id": f"{prefix}_{option.name}"}
    if hidden:
        common["elem_classes"] = "gie-hidden"
    if option.kind == "flag":
        return gr.Checkbox(value=option.default, **common)
    if option.kind == "text":
        return gr.Textbox(value=option.default, placeholder='knife, wine:0.5, "van gogh, oil painting"', **common)
    if option.kind == "number":
        return gr.Slider(option.low, option.high, value=option.default, step=option.step, **common)
    if option.kind == "adapter":
        return _adapter_field(option, prefix)
    return gr.Dropdown(choices=list(option.choices), value=option.default, **common)


def _adapter_field(option: Option, prefix: str) -> Any:
    """Build the adapter field and its refresh button, side by side at any width."""
    with gr.Row(elem_classes="gie-adapter"):
        elem_id = f"{prefix}_{option.name}"
        field = gr.Dropdown(choices=adapter_names(), value=option.default, label=option.label, elem_id=elem_id)
        field.do_not_save_to_config = True  # an adapter that was saved there may be gone at the next start
        create_refresh_button(field, lambda: None, lambda: {"choices": adapter_names()}, f"{elem_id}_refresh")
    _dropdowns.append(field)
    return field


def _row(names: Sequence[str], prefix: str, is_img2img: bool) -> dict[str, Any]:
    with gr.Row(elem_classes="gie-row"):
        return {name: _field(BY_NAME[name], prefix, is_without_effect(name, is_img2img)) for name in names}


def build_accordion(is_img2img: bool) -> tuple[list[Any], list[PasteField]]:
    """Build the accordion; return its components in the order of OPTIONS, and how an infotext fills them."""
    tab = "img2img" if is_img2img else "txt2img"
    prefix = f"gie_{tab}"
    with InputAccordion(False, label=TITLE, elem_id=f"{prefix}_enabled") as enabled:
        enabled.accordion.label = HEADER  # the tick keeps its name, under which the API and ui-config.json have it
        with enabled.extra():
            gr.HTML(enforced_note(), elem_id=f"{prefix}_state", elem_classes="gie-state")
        gr.HTML(page_data(tab), elem_id=f"{prefix}_help", elem_classes="gie-hidden")
        fields = {"concepts": _field(BY_NAME["concepts"], prefix)}
        preset_buttons(fields["concepts"], prefix)
        lines = gr.HTML("", elem_id=f"{prefix}_tokens")
        fields |= _row(SIMPLE, prefix, is_img2img)
        with gr.Accordion("Advanced", open=False, elem_id=f"{prefix}_advanced"):
            for names in ADVANCED:
                fields |= _row(names, prefix, is_img2img)
        if tab not in _notices:  # there is no prompt, or it comes later
            _notices[tab] = _notice_holder(tab)
        add_holder(tab, gr.HTML("", elem_id=f"{prefix}_readout", elem_classes="gie-readout"))
    _keep_lines(tab, fields, lines)
    beside_gallery.add_concepts(tab, fields["concepts"])
    for name, field in fields.items():  # pasting changes fields without an event that the page's script could see
        told = f"value => {{ window.growthInhibitorsChanged?.('{tab}', '{prefix}_{name}', value); }}"
        field.change(None, [field], None, _js=told)
    components = [enabled, *(fields[option.name] for option in OPTIONS[1:])]
    return components, paste_fields(components, _notices[tab])


def _keep_lines(tab: str, fields: dict[str, Any], lines: Any) -> None:
    """Have the lines under the text field say what is so now, and after a generation how present concepts were."""
    present = gr.State({})
    given = [fields[name] for name in ("concepts", "adapter", "rule")]
    keep_current(tab, given, concept_lines, [*given, present], [lines])
    refresh_afterwards(tab, presence_of, [present], told_of_change(tab))
