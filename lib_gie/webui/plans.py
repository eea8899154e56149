"""From what is asked for to what is done: a request and the loaded model give rules for every concept's scale."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from modules import paths_internal

from ..concepts import Concept
from ..demo.fixed_scale import load_fixed_scale
from ..scale import DEFAULT_SCALE, FixedScale, ScaleRule
from . import arguments, forge
from .generation import Plan
from .infotext import Rule
from .library import adapter_for, find_adapter
from .model import family_of, unet_of
from .options import AUTOMATIC, FIXED, TITLE, Request


def adapter_folders() -> list[Path]:
    """Where adapters lie: shipped ones, and the user's own among the WebUI's models."""
    return arguments.adapter_folders(paths_internal.models_path)


def default_scale(base: str) -> float:
    """The fixed scale that Automatic takes where no adapter fits."""
    return load_fixed_scale() if base == "gie-demo" else DEFAULT_SCALE


def _rule(
    request: Request, concept: Concept, base: str, heads: Sequence[int], enforced: bool
) -> tuple[ScaleRule, Rule]:
    if request.adapter == FIXED:
        return FixedScale(request.scale), Rule(None, None, request.scale)
    if request.adapter == AUTOMATIC:
        installed = adapter_for(concept.key, base, heads, adapter_folders(), trusted=enforced)
        if installed is None:
            scale = default_scale(base)
            return FixedScale(scale), Rule(None, None, scale)
    else:
        installed = find_adapter(request.adapter, adapter_folders())
    installed.adapter.check_model(base, heads)
    return installed.adapter, Rule(installed.name, installed.hash, DEFAULT_SCALE)


def make_plan(request: Request, model: Any, enforced: bool = False, floor: float = 0.0) -> Plan:
    """Rules for a request on a model. Raises AdapterError, UnsupportedModelError where there can be none.

    ``enforced``: the admin's request, not a user's. ``floor``: a scale that no image's is weaker than; 0: none.
    """
    base, heads = family_of(unet_of(model))
    pairs = [_rule(request, concept, base, heads, enforced) for concept in request.concepts]
    rules, described = tuple(rule for rule, _ in pairs), tuple(about for _, about in pairs)
    return Plan(request, rules, described, enforced, _notes(request, described, base, enforced))


def _notes(request: Request, described: Sequence[Rule], base: str, enforced: bool) -> tuple[str, ...]:
    """What Automatic did where no adapter fits."""
    lacking = [
        (concept.text, rule.scale)
        for concept, rule in zip(request.concepts, described, strict=True)
        if request.adapter == AUTOMATIC and rule.adapter is None
    ]
    trains = f"the tab {TITLE} of AUTOMATIC1111's WebUI" if forge.is_here() else f"the tab {TITLE}"
    remedy = (
        "an adapter that was trained in the tab counts where the admin names it" if enforced else f"{trains} trains one"
    )
    return tuple(
        f"no adapter for {text!r} fits this model ({base}), so the fixed scale {scale:g} was used; {remedy}"
        for text, scale in lacking
    )
