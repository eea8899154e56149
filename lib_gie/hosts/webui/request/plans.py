"""From a request to a plan: the loaded model and the installed adapters give a rule for every concept's scale."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from modules import shared

from lib_gie.checks import quoted
from lib_gie.core.concepts import MAX_TOKENS, Concept
from lib_gie.core.rules import erasing_rule
from lib_gie.core.scales.calibrated import Calibration
from lib_gie.core.scales.fitted import Fitted, kind_name
from lib_gie.core.scales.scale_rules import FixedScale, Guarded, ScaleRule, guarded
from lib_gie.demo.fixed_scale import default_scale
from lib_gie.errors import AdapterError, GieError, OptionError
from lib_gie.hosts.library import InstalledAdapter, adapter_for, calibration_for, kept_calibration
from lib_gie.hosts.webui.host.chosen import HOST
from lib_gie.hosts.webui.host.model import (
    clip_skip,
    family_and_heads,
    inversions_in,
    split_tokens,
    unet_of,
    weights_of,
    word_tokens,
)
from lib_gie.options import AUTOMATIC, BY_NAME, DEFAULT_SCALE, FIXED

from .enforcement import Enforced, calibrates_enforced, enforced_keys, not_enforced
from .infotext import ScaleSource
from .installed import adapter_folders, calibrations_folder, find_named
from .parsing import TITLE, Request
from .plan import Plan

TO_COME = "calibration, which the first image makes"
"""What users are told that a concept is erased by where its calibration is not made yet."""

CALIBRATE = "gie_calibrate"
"""The setting by which concepts are calibrated when they are first to be erased."""


def automatic_text(concepts: Sequence[Concept], model: Any) -> str:
    """Say in a sentence what Automatic takes for each concept on a model; "" for models that cannot be erased from."""
    try:
        base, heads = family_and_heads(unet_of(model))
    except GieError:  # the user is told when an image is asked for
        return ""
    usable = [concept for concept in concepts if len(split_tokens(concept.text, model)[0]) <= MAX_TOKENS]
    named = [f"for {concept.text} {_taken_for(concept, base, heads, model)}" for concept in usable]
    return f"Now {AUTOMATIC} takes {', '.join(named)}." if named else ""


def _taken_for(concept: Concept, base: str, heads: Sequence[int], model: Any) -> str:
    """Say what Automatic takes for a user's concept."""
    chosen = _found_for(concept, base, heads, model)
    if chosen is not None:
        return f"the {kind_name(chosen.adapter)} {chosen.name}"
    is_made = calibrates() and _is_words(concept.text, model)
    return f"a {TO_COME}" if is_made else "the fixed scale"


def _found_for(concept: Concept, base: str, heads: Sequence[int], model: Any) -> InstalledAdapter | None:
    """Return what Automatic takes for a user's concept: an adapter, else its calibration on this checkpoint."""
    folders = adapter_folders()
    trained = adapter_for(concept.key, base, heads, folders)
    if trained is not None:
        return trained
    of_concept = concept.key, weights_of(model), clip_skip()
    return kept_calibration(*of_concept, calibrations_folder()) or calibration_for(*of_concept, folders)


def _trusted_for(request: Request, concept: Concept, base: str, heads: Sequence[int], model: Any) -> Any:
    """Return what Automatic takes for an enforced concept, None for the fixed scale.

    That is an adapter that nobody can have trained in the tab, else the calibration, which no request has a say in.
    """
    trained = adapter_for(concept.key, base, heads, adapter_folders(), trusted=True)
    if trained is not None or not _takes_calibrations(request, enforced=True):
        return trained
    return kept_calibration(concept.key, weights_of(model), clip_skip(), calibrations_folder())


def _takes_calibrations(request: Request, enforced: bool) -> bool:
    """Tell whether what Automatic has no adapter for is calibrated. A scale that an admin has chosen goes before."""
    return calibrates(enforced) and not (enforced and _is_chosen(request.scale))


def _is_chosen(scale: float) -> bool:
    return bool(scale != BY_NAME["scale"].default)


def to_calibrate(plans: Sequence[Plan], enforced: bool = False) -> list[Concept]:
    """Return the concepts for which Automatic found nothing, and which can be calibrated on the loaded model.

    They are the user's, or those that are ``enforced``. A user's concept that is a textual inversion's name can not be
    calibrated: what it means is in a file that anybody may have made. Of what is enforced the words alone count.
    """
    chosen = [plan for plan in plans if plan.enforced == enforced and _takes_calibrations(plan.request, enforced)]
    found = [concept for plan in chosen for concept, _ in _lacking(plan.request, plan.sources)]
    model = shared.sd_model
    if enforced:
        return [one for one in found if one.literal and 0 < len(word_tokens(one.text, model)) <= MAX_TOKENS]
    return [concept for concept in found if _is_words(concept.text, model)]


def _lacking(request: Request, sources: Sequence[ScaleSource]) -> list[tuple[Concept, ScaleSource]]:
    """Return the concepts for which Automatic took the fixed scale, as nothing else is there."""
    if request.adapter != AUTOMATIC or not erasing_rule(request.rule).takes_adapters:
        return []
    return [pair for pair in zip(request.concepts, sources, strict=True) if pair[1].adapter is None]


def _is_words(text: str, model: Any) -> bool:
    try:
        return 0 < len(split_tokens(text, model)[0]) <= MAX_TOKENS and not inversions_in(text, model)
    except GieError:  # it ends the request when it is encoded
        return False


def calibrates(enforced: bool = False) -> bool:
    """Tell whether a concept is calibrated when it is first to be erased.

    The setting is for users' concepts, the command line for what is ``enforced``.
    """
    wanted = calibrates_enforced() if enforced else bool(getattr(shared.opts, CALIBRATE, True))
    return HOST.calibrates and wanted


def _without_adapter(request: Request, base: str, enforced: bool) -> float:
    """Return the fixed scale that Automatic takes where no adapter fits: an admin's, if one is set, else the usual.

    A user's scale does not count here: the accordion sends one that nobody has chosen.
    """
    return request.scale if enforced and _is_chosen(request.scale) else default_scale(base)


def _rule(
    request: Request, concept: Concept, base: str, heads: Sequence[int], model: Any, enforced: bool
) -> tuple[ScaleRule, ScaleSource]:
    """Return the rule of one concept's scale, and how an infotext names it."""
    if request.adapter == FIXED:
        return FixedScale(request.scale), ScaleSource(None, None, request.scale)
    erasing = erasing_rule(request.rule)
    if not erasing.takes_adapters:
        if request.adapter != AUTOMATIC:
            raise OptionError(
                f"adapter is {quoted(request.adapter)} and rule is {request.rule!r}: adapters are fitted on growth "
                f"inhibitors. Set the adapter to {AUTOMATIC} or {FIXED}, or take that rule"
            )
        return FixedScale(erasing.range.default), ScaleSource(None, None, erasing.range.default)
    if request.adapter == AUTOMATIC:
        known = base, heads, model
        installed = _trusted_for(request, concept, *known) if enforced else _found_for(concept, *known)
        if installed is None:
            scale = _without_adapter(request, base, enforced)
            return FixedScale(scale), ScaleSource(None, None, scale)
    else:
        installed = find_named(request.adapter)
        if not enforced:
            _check_own(installed)
        if enforced and not installed.adapter.is_for(concept.key):
            raise AdapterError(
                f"this WebUI always erases {concept.text!r} with the adapter {installed.name!r}, which was fitted for "
                f"{', '.join(installed.info.concepts)}. Its admin must choose {AUTOMATIC}, or an adapter for it"
            )
    installed.adapter.check_model(base, heads)
    _check_checkpoint(installed, model)
    rule = guarded(installed.adapter, default_scale(base), plain_only=enforced)
    return rule, ScaleSource(installed.name, installed.digest, DEFAULT_SCALE)


def _check_own(installed: InstalledAdapter) -> None:
    """Raise AdapterError where a user asks for the calibration of what is enforced, to see what it says of prompts."""
    found = installed.adapter
    if isinstance(found, Calibration) and any(found.is_for(key) for key in enforced_keys()):
        raise AdapterError(
            f"{quoted(installed.name)} is for what this WebUI always erases, and for nothing else; take {AUTOMATIC}"
        )


def _check_checkpoint(installed: InstalledAdapter, model: Any) -> None:
    """Raise AdapterError for a calibration that was made on another checkpoint."""
    found = installed.adapter
    if isinstance(found, Calibration) and found.info.weights != weights_of(model):
        raise AdapterError(
            f"{quoted(installed.name)} was calibrated on another checkpoint than the loaded one; take {AUTOMATIC}, "
            f"which calibrates {quoted(found.info.concepts[0])} on this one"
        )


def plans_for(request: Request | None, enforced: Sequence[Enforced]) -> list[Plan]:
    """Return the plans of what the admin enforces, then that of what else a user's ``request`` names.

    Raises what ``make_plan`` does. The model is looked at only where something is to be erased.
    """
    if request is None and not enforced:
        return []
    model = shared.sd_model
    plans = [make_plan(wish.request, model, enforced=True, floor=wish.floor) for wish in enforced]
    left = None if request is None else not_enforced(request, enforced)
    return plans if left is None else [*plans, make_plan(left, model)]


def make_plan(request: Request, model: Any, enforced: bool = False, floor: float = 0.0) -> Plan:
    """Return the rules for a request on a model. Raises AdapterError, UnsupportedModelError where there can be none.

    ``enforced``: the admin's request, not a user's. ``floor``: a scale that no image's is weaker than; 0: none.
    """
    base, heads = family_and_heads(unet_of(model))
    if enforced:
        request = dataclasses.replace(request, concepts=_as_words(request.concepts, model))
    pairs = [_rule(request, concept, base, heads, model, enforced) for concept in request.concepts]
    rules, sources = tuple(rule for rule, _ in pairs), tuple(source for _, source in pairs)
    notes = (*_notes(request, sources, base, enforced), *_adapter_notes(request, rules, sources, enforced))
    return Plan(request, rules, sources, enforced, notes, floor, base)


def _as_words(concepts: Sequence[Concept], model: Any) -> tuple[Concept, ...]:
    """Return the concepts as plain words, and those that are a textual inversion's name in both readings.

    An inversion counts only on top of the words, because anybody may have made it.
    """
    found = []
    for concept in concepts:
        found.append(dataclasses.replace(concept, literal=True))
        if inversions_in(concept.text, model) and len(split_tokens(concept.text, model)[0]) <= MAX_TOKENS:
            found.append(concept)
    return tuple(found)


def _adapters(rules: Sequence[ScaleRule], sources: Sequence[ScaleSource]) -> dict[str, Fitted]:
    """Return the adapters in use, by name."""
    pairs = zip(rules, sources, strict=True)
    return {source.adapter: rule.adapter for rule, source in pairs if isinstance(rule, Guarded) and source.adapter}


def _adapter_notes(
    request: Request, rules: Sequence[ScaleRule], sources: Sequence[ScaleSource], enforced: bool
) -> list[str]:
    """Say what users should know of the adapters in use: those for another concept, old ones, what they warn of.

    What a calibration of what is ``enforced`` warns of is the admin's: the console had it when it was made.
    """
    adapters = _adapters(rules, sources)
    foreign = [
        f"the adapter {source.adapter} was fitted for {', '.join(rule.adapter.info.concepts)}, not for "
        f"{concept.text!r}; it knows nothing of that"
        for concept, rule, source in zip(request.concepts, rules, sources, strict=True)
        if isinstance(rule, Guarded) and not rule.adapter.is_for(concept.key)
    ]
    unknown = [
        f"the adapter {name} does not say what it was fitted on, so it cannot be told where it knows nothing; train it "
        f"again with this version"
        for name, adapter in adapters.items()
        if not adapter.knows_its_range
    ]
    warnings = [found.info.warning for found in adapters.values() if isinstance(found, Calibration) and not enforced]
    return [*foreign, *unknown, *filter(None, warnings)]


def differences(plan: Plan, p: Any) -> list[str]:
    """Say how what is asked of ``p`` differs from what the adapters of a user's request were fitted at.

    A calibration says the same at every CFG scale and size, for it reads prompts at its own.
    """
    if plan.enforced:
        return []
    asked = {
        "clip_skip": ("clip skip", clip_skip()),
        "cfg": ("CFG scale", getattr(p, "cfg_scale", None)),
    }
    found = []
    for name, adapter in _adapters(plan.rules, plan.sources).items():
        known, size = dict(adapter.info.conditions), adapter.readings[0].size
        if isinstance(adapter, Calibration):
            known.pop("cfg", None)
            size = None
        parts = [
            f"{label} {known[key]:g}, not {value:g}"
            for key, (label, value) in asked.items()
            if value is not None and key in known and value != known[key]
        ]
        wanted = getattr(p, "height", 0) // 8, getattr(p, "width", 0) // 8
        if size is not None and all(wanted) and size != wanted:
            parts.append(f"{8 * size[1]}x{8 * size[0]} pixels, not {8 * wanted[1]}x{8 * wanted[0]}")
        found += [f"the adapter {name} was fitted at {'; '.join(parts)}"] if parts else []
    return found


def _notes(request: Request, sources: Sequence[ScaleSource], base: str, enforced: bool) -> tuple[str, ...]:
    """Say which fixed scale Automatic took where no adapter fits."""
    trains = f"the tab {TITLE}" if HOST.trains_adapters else f"the tab {TITLE} of AUTOMATIC1111's WebUI"
    remedy = (
        "an adapter that was trained in the tab counts where the admin names it" if enforced else f"{trains} trains one"
    )
    return tuple(
        f"no adapter for {quoted(concept.text)} fits this model ({base}), so the fixed scale {source.scale:g} was "
        f"used; {remedy}"
        for concept, source in _lacking(request, sources)
    )
