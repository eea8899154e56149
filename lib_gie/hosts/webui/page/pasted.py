"""An infotext that is pasted into the page or sent to the API: how it fills the fields, and what is said of it.

``request/pasting.py`` reads it; this file knows the page and this WebUI's adapters, settings and model.
"""

from __future__ import annotations

import html
from collections.abc import Callable, Sequence
from typing import Any

import gradio as gr
from modules import shared
from modules.infotext_utils import PasteField, parse_generation_parameters

from lib_gie.checks import quoted
from lib_gie.core.concepts import Concept
from lib_gie.core.rules.growth_inhibitors import RULE
from lib_gie.core.scales.scale_rules import emphasis_factor
from lib_gie.errors import GieError, OptionError
from lib_gie.hosts.webui.host.model import loaded_model
from lib_gie.hosts.webui.request.enforcement import enforced_keys
from lib_gie.hosts.webui.request.infotext import ALL_KEYS
from lib_gie.hosts.webui.request.installed import adapter_names, find_of_infotext
from lib_gie.hosts.webui.request.parsing import TITLE
from lib_gie.hosts.webui.request.pasting import ENABLED, RAW, Here, may_be_ours, read_params
from lib_gie.hosts.webui.request.prompts import facts_of
from lib_gie.options import BY_NAME, OPTIONS, Option

PASTE_NAMES = [ENABLED, *ALL_KEYS]
"""The keys by which "Send to" takes fields from one tab to another, and which a user can have disregarded."""


class PasteKey(str):
    """An infotext key that computes its value: "Send to" looks fields up by their text, pasting calls them."""

    compute: Callable[[dict], Any]

    def __new__(cls, text: str, compute: Callable[[dict], Any]) -> PasteKey:
        key = super().__new__(cls, text)
        key.compute = compute
        return key

    def __call__(self, params: dict) -> Any:
        return self.compute(params)


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
        find=lambda name, digest: find_of_infotext(name, digest).name,
        skipped=frozenset(shared.opts.infotext_skip_pasting or ()),
        enforced=frozenset(enforced),
        factor=_factor,
    )


def on_infotext_pasted(infotext: str, params: dict) -> None:
    """Keep the whole text before the fields are filled, because the WebUI may read less of it: its callback."""
    if may_be_ours(infotext):
        params[RAW] = infotext


def check_pasted(infotext: str | None) -> None:
    """Raise OptionError where the page would have something to say about an API request's infotext."""
    if not infotext or not may_be_ours(infotext):
        return
    notice = read_params({**parse_generation_parameters(infotext), RAW: infotext}, _here())[1]
    if notice:
        raise OptionError(f"{notice}. Correct the infotext, or leave it out and say in alwayson_scripts what to erase")


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
            return _offered(option, values.get(option.name))
        # nothing was erased there, as far as its keys are not disregarded
        return False if option.name == "enabled" and not _skipped(ENABLED, BY_NAME["concepts"].infotext) else None

    return PasteKey(key, value)


def _offered(option: Option, value: Any) -> Any:
    """Return what a field is set to. A dropdown shows what it offers alone, and calibrations are in no list."""
    names = adapter_names() if option.kind == "adapter" and isinstance(value, str) else [value]
    return value if value in names else gr.update(value=value, choices=[*names, value])


def _skipped(*keys: str) -> bool:
    return not _here().skipped.isdisjoint(keys)


def _notice(params: dict) -> Any:
    values, notice = _pasted(params)
    more = ". Erasing is on with the rest: look it through" if values and values.get("enabled") else ""
    said = f"<span class='gie-error'>{TITLE}: {html.escape(notice)}{more}</span>"
    return gr.update(value=said if notice else "", visible=bool(notice))


def paste_fields(components: Sequence[Any], notice: Any) -> list[PasteField]:
    """Return how an infotext fills the components, which are in the order of OPTIONS, and the ``notice``."""
    fields = [PasteField(part, _paste(option)) for part, option in zip(components, OPTIONS, strict=True)]
    return [*fields, PasteField(notice, PasteKey("GIE notice", _notice))]
