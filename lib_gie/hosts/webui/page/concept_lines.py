"""The lines under the text field, one for each concept: its tokens, what sets its scale, how present it was."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import Any

from lib_gie.core.concepts import MAX_TOKENS, Concept, parse_concepts
from lib_gie.core.scales.scale_rules import ScaleRule
from lib_gie.demo.sampling_settings import FAMILY
from lib_gie.errors import GieError
from lib_gie.hosts.webui.host.model import (
    family_and_heads,
    inversions_in,
    loaded_model,
    split_tokens,
    text_encoders,
    unet_of,
)
from lib_gie.hosts.webui.request.enforcement import enforced_requests, not_enforced
from lib_gie.hosts.webui.request.infotext import ScaleSource
from lib_gie.hosts.webui.request.parsing import Request
from lib_gie.hosts.webui.request.plans import TO_COME, make_plan, to_calibrate
from lib_gie.hosts.webui.shown.readout import Presence, kind_of
from lib_gie.options import BY_NAME

_ALWAYS = "always erased on this WebUI"


def _named(rule: ScaleRule, source: ScaleSource) -> str:
    kind = kind_of(rule, source)
    return kind if source.adapter is None else f"{kind} {source.adapter}"


def sources_of(concepts: Sequence[Concept], adapter: Any, rule: Any, model: Any) -> dict[str, str]:
    """Return by each concept's key what sets its scale, as the next image's plan has it.

    ``adapter``, ``rule``: the values of their fields. Raises GieError where no image could be made with them.
    """
    chosen = {name: BY_NAME[name].read(value) for name, value in (("adapter", adapter), ("rule", rule))}
    left = not_enforced(Request(tuple(concepts), **chosen), enforced_requests())
    found = {concept.key: _ALWAYS for concept in concepts}
    if left is None:
        return found
    plan = make_plan(left, model)
    for concept, scale_rule, source in zip(left.concepts, plan.rules, plan.sources, strict=True):
        found[concept.key] = _named(scale_rule, source)
    return {**found, **{concept.key: TO_COME for concept in to_calibrate([plan])}}


def _shares(shares: Sequence[float]) -> str:
    least, most = (f"{100 * share:.0f}" for share in (min(shares), max(shares)))
    return f"{least} %" if least == most else f"{least} to {most} %"


def _presence(found: Presence | None) -> str:
    """Say how present a concept was in the images of the last generation; "" where that is not known."""
    if found is None:
        return ""
    images = "last images" if found.images > 1 else "last image"
    if found.in_prompt:
        return f"{images}: named or implied {_shares(found.in_prompt)}"
    return f"{images}: attention to it up to {_shares(found.attention)}" if found.attention else ""


def _unknown(concept: Concept, model: Any) -> str:
    """Say that the demo model does not know a concept's words; "" where it does, and for other models."""
    try:
        if family_and_heads(unet_of(model))[0] != FAMILY or inversions_in(concept.text, model):
            return ""
    except GieError:  # the line below says what cannot be done
        return ""
    from lib_gie.demo.words import unknown_words_message  # loads the drawings

    message = unknown_words_message(concept.text, "concept", with_known=False)
    return f"{message}: name something else" if message else ""


def _line(concept: Concept, count: int, source: str, presence: str, unknown: str) -> str:
    tokens, name = f"{count}/{MAX_TOKENS} tokens", html.escape(concept.text)
    if count > MAX_TOKENS:  # no image is made then
        return f"<li class='gie-error'><b>{name}</b>: {tokens} (too long: shorten it)</li>"
    parts = [html.escape(part) for part in (tokens, source, presence, unknown) if part]
    return f"<li><b>{name}</b>: {' · '.join(parts)}</li>"


def concept_lines(text: Any, adapter: Any = None, rule: Any = None, present: Any = None) -> str:
    """Return as HTML what is to be said of each concept of a text, or an error.

    ``adapter``, ``rule``: the values of their fields. ``present``: how present concepts were in the last generation,
    by their keys. The text is "" where nothing is to be said.
    """
    if not isinstance(text, str) or not text.strip():
        return ""
    model = loaded_model()
    try:
        concepts = parse_concepts(text)
        if model is None or not text_encoders(model):
            return ""
        counts = [len(split_tokens(concept.text, model)[0]) for concept in concepts]
    except GieError as error:
        return _error(error)
    problem, sources = "", {}
    try:
        sources = sources_of(concepts, adapter, rule, model)
    except GieError as error:
        problem = _error(error)
    known: Mapping[str, Presence] = present if isinstance(present, dict) else {}
    lines = [
        _line(concept, count, sources.get(concept.key, ""), _presence(known.get(concept.key)), _unknown(concept, model))
        for concept, count in zip(concepts, counts, strict=True)
    ]
    return f"<ul class='gie-concepts'>{''.join(lines)}</ul>{problem}"


def _error(error: GieError) -> str:
    return f"<span class='gie-error'>{html.escape(str(error))}</span>"
