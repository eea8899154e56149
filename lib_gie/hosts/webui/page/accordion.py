"""The accordion: its fields, what they say, and how an infotext fills them."""

from __future__ import annotations

import html
import json
from collections.abc import Sequence
from typing import Any

import gradio as gr
from modules import shared
from modules.infotext_utils import PasteField, parse_generation_parameters
from modules.ui_common import create_refresh_button
from modules.ui_components import InputAccordion

from lib_gie.checks import quoted
from lib_gie.core.concepts import MAX_TOKENS, Concept, parse_concepts
from lib_gie.core.rules.growth_inhibitors import RULE
from lib_gie.core.scales.rules import emphasis_factor
from lib_gie.errors import GieError, OptionError
from lib_gie.hosts.webui.host.model import loaded_model, split_tokens, text_encoders
from lib_gie.hosts.webui.request.enforcement import enforced_keys, enforced_text
from lib_gie.hosts.webui.request.infotext import ALL_KEYS
from lib_gie.hosts.webui.request.library import find_recorded, listed_names
from lib_gie.hosts.webui.request.parsing import TITLE
from lib_gie.hosts.webui.request.pasting import ENABLED, RAW, Here, may_be_ours, read_params
from lib_gie.hosts.webui.request.plans import adapter_folders, automatic_text
from lib_gie.hosts.webui.request.prompts import facts_of
from lib_gie.hosts.webui.shown.readout import add_holder
from lib_gie.options import AUTOMATIC, BY_NAME, FIXED, OPTIONS, Option


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


_notices: dict[str, Any] = {}
"""By tab what is said about a pasted infotext."""

_PROMPTS = ("txt2img_prompt", "img2img_prompt")


def _notice_holder(tab: str) -> Any:
    return gr.HTML("", elem_id=f"gie_{tab}_notice", elem_classes="gie-notice", visible=False)


def on_after_component(component: Any, elem_id: str | None = None, **unused: Any) -> None:
    """The WebUI's callback: right after the prompt comes what is to be said about a pasted infotext.

    In the accordion nobody would see it.
    """
    tab = str(elem_id or "").removesuffix("_prompt")
    if elem_id in _PROMPTS and tab not in _notices:
        _notices[tab] = _notice_holder(tab)


def begin() -> None:
    """Before the page is built, at the start and at Reload UI."""
    _dropdowns.clear()
    _notices.clear()


def _factor(prompt: str, concepts: Sequence[Concept]) -> float:
    """Return what w grows by for a prompt's emphasis; 1 where that cannot be told here."""
    model = loaded_model()
    try:
        if model is None:
            return 1.0
        return emphasis_factor(facts_of(prompt, concepts, model, 20, 20).emphasis, RULE.emphasis_power)
    except GieError:
        return 1.0


def _here() -> Here:
    try:
        enforced = enforced_keys()
    except GieError:  # then no image is made at all
        enforced = set()
    return Here(
        find=lambda name, digest: find_recorded(name, digest, adapter_folders()).name,
        skipped=frozenset(shared.opts.infotext_skip_pasting or ()),
        enforced=frozenset(enforced),
        factor=_factor,
    )


def on_infotext_pasted(infotext: str, params: dict) -> None:
    """The WebUI's callback, before the fields are filled: keep the text, for what the WebUI reads of it may be less."""
    if may_be_ours(infotext):
        params[RAW] = infotext


def check_pasted(infotext: str | None) -> None:
    """Raise OptionError where the page would have something to say about an API request's infotext."""
    if not infotext or not may_be_ours(infotext):
        return
    notice = read_params({**parse_generation_parameters(infotext), RAW: infotext}, _here())[1]
    if notice:
        raise OptionError(f"{notice}. Correct the infotext, or leave it out and say in alwayson_scripts what to erase")


def count_tokens(text: str) -> str:
    """One line of HTML under the text field: tokens per concept and what Automatic takes, or what is wrong."""
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
    try:
        return read_params(params, _here())
    except Exception as error:  # the WebUI would print it, and leave erasing off
        if may_be_ours(str(params.get(RAW, ""))):
            return {"enabled": True}, f"the growth inhibitors of this infotext cannot be read ({quoted(str(error))})"
        return None, ""


def _paste(option: Option) -> PasteKey:
    key = option.infotext or ENABLED

    def value(params: dict) -> Any:
        values, _ = _pasted(params)
        if values is not None:
            return values.get(option.name)
        # nothing was erased there, as far as its keys are not disregarded
        return False if option.name == "enabled" and not _skipped(ENABLED, BY_NAME["concepts"].infotext) else None

    return PasteKey(key, value)


def _skipped(*keys: str) -> bool:
    return not _here().skipped.isdisjoint(keys)


def _notice(params: dict) -> Any:
    values, notice = _pasted(params)
    more = ". Erasing is on with the rest: look it through" if values and values.get("enabled") else ""
    said = f"<span class='gie-error'>{TITLE}: {html.escape(notice)}{more}</span>"
    return gr.update(value=said if notice else "", visible=bool(notice))


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
    components = [enabled, *(fields[option.name] for option in OPTIONS[1:])]
    pasting = [PasteField(part, _paste(option)) for part, option in zip(components, OPTIONS, strict=True)]
    return components, [*pasting, PasteField(_notices[tab], PasteKey("GIE notice", _notice))]


PASTE_NAMES = [ENABLED, *ALL_KEYS]
