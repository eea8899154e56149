"""The accordion: its fields, what they say, and how an infotext fills them."""

from __future__ import annotations

import html
import json
from typing import Any

import gradio as gr
from modules.infotext_utils import PasteField, parse_generation_parameters
from modules.ui_common import create_refresh_button
from modules.ui_components import InputAccordion

from ..concepts import MAX_TOKENS, parse_concepts
from ..errors import AdapterError, GieError
from .infotext import ALL_KEYS, adapter_problem, read_params
from .library import find_adapter, listed_names
from .model import loaded_model, split_tokens, text_encoders
from .options import AUTOMATIC, BY_NAME, FIXED, OPTIONS, TITLE, Option
from .plans import adapter_folders, automatic_text, enforced_text
from .readout import add_holder


class PasteKey(str):
    """An infotext key that computes its value: "Send to" looks fields up by their text, pasting calls them."""

    def __new__(cls, text: str, compute):
        key = super().__new__(cls, text)
        key.compute = compute
        return key

    def __call__(self, params: dict) -> Any:
        return self.compute(params)


def adapter_names() -> list[str]:
    """What the adapter fields offer. The WebUI's gradio knows no labels beside the values that are sent."""
    return [AUTOMATIC, FIXED, *listed_names(adapter_folders())]


_dropdowns: list[Any] = []


def adapter_dropdowns() -> list[Any]:
    """The adapter fields of the page that is shown: of txt2img and img2img."""
    return list(_dropdowns)


def begin() -> None:
    """Before the page is built, at the start and at Reload UI."""
    _dropdowns.clear()


def _hash_of(name: str) -> str:
    return find_adapter(name, adapter_folders()).hash


def check_pasted(infotext: str | None) -> None:
    """Raise AdapterError where an API request's infotext names an adapter that is missing here or another."""
    params = parse_generation_parameters(infotext, []) if infotext else {}
    problem = adapter_problem(params, _hash_of)
    if problem is not None:
        raise AdapterError(
            f"{problem}. Install it, or leave the infotext out and send adapter {FIXED!r} with the recorded scale"
        )


def count_tokens(text: str) -> str:
    """One line of HTML under the text field: tokens per concept and what Automatic takes, or what is wrong."""
    if not text.strip():
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
    """What the accordion says about concepts that are always erased here."""
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


def _pasted(params: dict) -> tuple[dict[str, Any] | None, str]:
    return read_params(params, _hash_of)


def _paste(option: Option) -> PasteKey:
    def value(params: dict) -> Any:
        values, notice = _pasted(params)
        if values is not None:
            return values[option.name]
        return False if option.name == "enabled" and not notice else None

    return PasteKey(option.infotext or "GIE enabled", value)


def _notice(params: dict) -> Any:
    notice = _pasted(params)[1]
    return gr.update(value=f"<span class='gie-error'>{html.escape(notice)}</span>" if notice else "")


def build(is_img2img: bool) -> tuple[list[Any], list[PasteField]]:
    """The accordion's components in the order of OPTIONS, and how an infotext fills them."""
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
            for name in ("start", "end", "concept_pass", "hires"):
                fields[name] = _field(BY_NAME[name], prefix)
        with gr.Row():
            for name in ("keep_composition", "composition_cross", "composition_self"):
                fields[name] = _field(BY_NAME[name], prefix)
        with gr.Row():
            for name in ("show_before", "show_attention"):
                fields[name] = _field(BY_NAME[name], prefix)
        notice = gr.HTML("", elem_id=f"{prefix}_notice")
        add_holder(tab, gr.HTML("", elem_id=f"{prefix}_readout", elem_classes="gie-readout"))
    fields["concepts"].change(count_tokens, [fields["concepts"]], [counter], show_progress=False, queue=False)
    components = [enabled, *(fields[option.name] for option in OPTIONS[1:])]
    pasting = [PasteField(part, _paste(option)) for part, option in zip(components, OPTIONS, strict=True)]
    return components, [*pasting, PasteField(notice, PasteKey("GIE notice", _notice))]


PASTE_NAMES = ["GIE enabled", *ALL_KEYS]
