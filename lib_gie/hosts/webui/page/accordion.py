"""The accordion: its fields and what they say."""

from __future__ import annotations

import html
import json
from typing import Any

import gradio as gr
from modules.infotext_utils import PasteField
from modules.ui_common import create_refresh_button
from modules.ui_components import InputAccordion

from lib_gie.core.concepts import MAX_TOKENS, parse_concepts
from lib_gie.errors import GieError
from lib_gie.hosts.webui.host.model import loaded_model, split_tokens, text_encoders
from lib_gie.hosts.webui.request.enforcement import enforced_text
from lib_gie.hosts.webui.request.installed import adapter_names
from lib_gie.hosts.webui.request.parsing import TITLE
from lib_gie.hosts.webui.request.plans import automatic_text
from lib_gie.hosts.webui.shown.readout import add_holder, refresh_afterwards
from lib_gie.options import BY_NAME, OPTIONS, Option

from .pasted import paste_fields

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


def count_tokens(text: str) -> str:
    """Return the line of HTML under the text field: tokens per concept and what Automatic takes, or an error."""
    if not isinstance(text, str) or not text.strip():
        return ""
    try:
        concepts = parse_concepts(text)
        model = loaded_model()
        if model is None or not text_encoders(model):
            return ""
        counts = [(concept.text, len(split_tokens(concept.text, model)[0])) for concept in concepts]
    except GieError as error:
        return f"<span class='gie-error'>{html.escape(str(error))}</span>"
    parts = [
        f"<span class='{'gie-error' if count > MAX_TOKENS else 'gie-count'}'>{html.escape(name)}: {count}"
        f"/{MAX_TOKENS}{' (too long: shorten it)' if count > MAX_TOKENS else ''}</span>"
        for name, count in counts
    ]
    return f"{', '.join(parts)} tokens. {html.escape(automatic_text(concepts, model))}"


def enforced_note() -> str:
    """Return what the accordion says about concepts that are always erased here."""
    text = enforced_text()
    return f"Always erased on this WebUI: <b>{html.escape(text)}</b>" if text else ""


def _field(option: Option, prefix: str) -> Any:
    common = {"label": option.label, "elem_id": f"{prefix}_{option.name}"}
    if option.kind == "flag":
        return gr.Checkbox(value=option.default, **common)
    if option.kind == "text":
        return gr.Textbox(value=option.default, placeholder='knife, wine:0.5, "van gogh, oil painting"', **common)
    if option.kind == "number":
        return gr.Slider(option.low, option.high, value=option.default, step=option.step, **common)
    choices = adapter_names() if option.kind == "adapter" else list(option.choices)
    return gr.Dropdown(choices=choices, value=option.default, **common)


def _refresh(component: Any, elem_id: str) -> None:
    component.do_not_save_to_config = True  # an adapter that was saved there may be gone at the next start
    create_refresh_button(component, lambda: None, lambda: {"choices": adapter_names()}, elem_id)


def build_accordion(is_img2img: bool) -> tuple[list[Any], list[PasteField]]:
    """Build the accordion; return its components in the order of OPTIONS, and how an infotext fills them."""
    tab = "img2img" if is_img2img else "txt2img"
    prefix = f"gie_{tab}"
    help_texts = {f"{prefix}_{option.name}": option.help for option in OPTIONS}
    with InputAccordion(False, label=TITLE, elem_id=f"{prefix}_enabled") as enabled:
        with enabled.extra():
            gr.HTML(enforced_note(), elem_id=f"{prefix}_state", elem_classes="gie-state")
        gr.HTML(
            f"<div data-help='{html.escape(json.dumps(help_texts), quote=True)}'></div>",
            elem_id=f"{prefix}_help", elem_classes="gie-hidden",
        )  # fmt: skip
        fields = {"concepts": _field(BY_NAME["concepts"], prefix)}
        counter = gr.HTML("", elem_id=f"{prefix}_tokens")
        with gr.Row():
            fields["adapter"] = _field(BY_NAME["adapter"], prefix)
            _refresh(fields["adapter"], f"{prefix}_adapter_refresh")
            _dropdowns.append(fields["adapter"])
            fields["strength"] = _field(BY_NAME["strength"], prefix)
            fields["scale"] = _field(BY_NAME["scale"], prefix)
        with gr.Row():
            for name in ("start", "end", "concept_pass", "hires", "rule"):
                fields[name] = _field(BY_NAME[name], prefix)
        with gr.Row():
            for name in ("keep_composition", "composition_cross", "composition_self"):
                fields[name] = _field(BY_NAME[name], prefix)
        with gr.Row():
            for name in ("show_before", "show_attention"):
                fields[name] = _field(BY_NAME[name], prefix)
        if tab not in _notices:  # there is no prompt, or it comes later
            _notices[tab] = _notice_holder(tab)
        add_holder(tab, gr.HTML("", elem_id=f"{prefix}_readout", elem_classes="gie-readout"))
    fields["concepts"].change(count_tokens, [fields["concepts"]], [counter], show_progress=False, queue=False)
    refresh_afterwards(tab, count_tokens, fields["concepts"], counter)  # a first use has made a calibration
    components = [enabled, *(fields[option.name] for option in OPTIONS[1:])]
    return components, paste_fields(components, _notices[tab])
