"""From what is asked for to what is done: a request and the loaded model give rules for every concept's scale."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from modules import paths_internal, shared

from ..concepts import Concept, parse_concepts
from ..demo.fixed_scale import load_fixed_scale
from ..errors import ErasureError, GieError
from ..scale import DEFAULT_SCALE, FixedScale, ScaleRule
from . import forge
from .generation import Plan
from .infotext import Rule
from .library import adapter_for, find_adapter
from .model import family_of, unet_of
from .options import AUTOMATIC, BY_NAME, FIXED, TITLE, Request

EXTENSION = Path(__file__).resolve().parents[2]


def adapter_folders() -> list[Path]:
    """Where adapters lie: shipped ones, and the user's own among the WebUI's models."""
    return [EXTENSION / "models", Path(paths_internal.models_path) / "growth-inhibitors"]


def default_scale(base: str) -> float:
    """The fixed scale that Automatic takes where no adapter fits."""
    return load_fixed_scale() if base == "gie-demo" else DEFAULT_SCALE


def automatic_text(concepts: Sequence[Concept], model: Any) -> str:
    """What Automatic takes for each concept on a model; nothing for models that cannot be erased from."""
    try:
        base, heads = family_of(unet_of(model))
    except GieError:  # which Generate says
        return ""
    found = [(concept, adapter_for(concept.key, base, heads, adapter_folders())) for concept in concepts]
    named = [f"{chosen.name if chosen else 'the fixed scale'} for {concept.text}" for concept, chosen in found]
    return f"{AUTOMATIC} takes {', '.join(named)}"


def _rule(request: Request, concept: Concept, base: str, heads: Sequence[int]) -> tuple[ScaleRule, Rule]:
    if request.adapter == FIXED:
        return FixedScale(request.scale), Rule(None, None, request.scale)
    if request.adapter == AUTOMATIC:
        installed = adapter_for(concept.key, base, heads, adapter_folders())
        if installed is None:
            scale = default_scale(base)
            return FixedScale(scale), Rule(None, None, scale)
    else:
        installed = find_adapter(request.adapter, adapter_folders())
    installed.adapter.check_model(base, heads)
    return installed.adapter, Rule(installed.name, installed.hash, DEFAULT_SCALE)


def make_plan(request: Request, model: Any, enforced: bool = False) -> Plan:
    """Rules for a request on a model. Raises AdapterError, UnsupportedModelError where there can be none."""
    base, heads = family_of(unet_of(model))
    pairs = [_rule(request, concept, base, heads) for concept in request.concepts]
    rules, described = tuple(rule for rule, _ in pairs), tuple(about for _, about in pairs)
    return Plan(request, rules, described, enforced, _notes(request, described, base))


def _notes(request: Request, described: Sequence[Rule], base: str) -> tuple[str, ...]:
    """What Automatic did where no adapter fits."""
    lacking = [
        (concept.text, rule.scale)
        for concept, rule in zip(request.concepts, described, strict=True)
        if request.adapter == AUTOMATIC and rule.adapter is None
    ]
    trains = f"the tab {TITLE} of AUTOMATIC1111's WebUI" if forge.is_here() else f"the tab {TITLE}"
    return tuple(
        f"no adapter for {text!r} fits this model ({base}), so the fixed scale {scale:g} was used; {trains} trains one"
        for text, scale in lacking
    )


# -- what the admin enforces ------------------------------------------------


def enforced_text() -> str:
    """The concepts that are always erased, from the command line and the settings."""
    texts = (getattr(shared.cmd_opts, "gie_enforce", None), getattr(shared.opts, "gie_enforced_concepts", None))
    return ", ".join(text.strip().strip(",") for text in texts if text and text.strip(", \t\r\n"))


def enforced_request() -> Request | None:
    """What is always erased, None if nothing is. Raises ErasureError where the admin's text cannot be read."""
    text = enforced_text()
    if not text:
        return None
    options = shared.opts
    try:
        return Request(
            parse_concepts(text),
            adapter=BY_NAME["adapter"].check(getattr(options, "gie_enforced_adapter", None)),
            strength=BY_NAME["strength"].check(getattr(options, "gie_enforced_strength", None)) or 1.0,
            scale=BY_NAME["scale"].check(getattr(options, "gie_enforced_scale", None)) or DEFAULT_SCALE,
        )
    except GieError as error:
        raise ErasureError(
            f"this WebUI always erases {text!r}, and that cannot be read: {error}. Its admin must correct "
            f"--gie-enforce or the settings of Growth Inhibitors"
        ) from error


def without(request: Request, enforced: Request | None) -> Request | None:
    """A user's request without the concepts that are enforced anyway; None if nothing is left."""
    taken = {concept.key for concept in enforced.concepts} if enforced else set()
    left = tuple(concept for concept in request.concepts if concept.key not in taken)
    return dataclasses.replace(request, concepts=left) if left else None
