"""The scale of each concept that a command erases: what it was told to take, or the best that there is."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lib_gie.assets import MODELS, adapter_folders, calibrations_folder, own_folder
from lib_gie.checks import quoted
from lib_gie.core.concepts import Concept
from lib_gie.core.rules import erasing_rule
from lib_gie.core.scales.fitted import Fitted, kind_name
from lib_gie.core.scales.scale_rules import FixedScale, Guarded, ScaleRule, guarded
from lib_gie.demo.fixed_scale import default_scale
from lib_gie.errors import AdapterError, ErasureError, OptionError, UnsupportedModelError
from lib_gie.hosts.webui.request.infotext import ScaleSource
from lib_gie.options import DEFAULT_SCALE

_LACKING = "no adapter is for it"


@dataclass(frozen=True)
class Choice:
    """The scale that was chosen for one concept.

    ``source``: as infotexts name it. ``by``: what was taken, in words; ``why``: the reason.
    """

    rule: ScaleRule
    source: ScaleSource
    by: str
    why: str

    @property
    def text(self) -> str:
        """Both in one line."""
        return f"{self.by} ({self.why})"


def add_automatic(parser: argparse._ActionsContainer) -> None:
    """Add the argument that leaves calibrating out."""
    parser.add_argument(
        "--no-calibrate",
        action="store_true",
        help="where no adapter and no calibration is there for a concept, take the fixed scale and calibrate nothing",
    )


def adapter_path(name: str) -> Path:
    """Return the file of an adapter or a calibration: the one at that path, or the one of that name.

    A name is looked for where ``train`` puts adapters, in models/, and where ``calibrate`` keeps what it finds. Raises
    OptionError for a name that is in none of these, and no file here either.
    """
    if not name.strip():
        raise OptionError("the adapter's name is empty; give one of those that `python -m lib_gie adapters` lists")
    if os.sep in name or Path(name).is_file():
        return Path(name)
    file = f"{name.removesuffix('.safetensors')}.safetensors"
    folders = own_folder(), MODELS, calibrations_folder()
    found = next((folder / file for folder in folders if (folder / file).exists()), None)
    if found is None:
        looked = ", ".join(dict.fromkeys(str(folder.absolute()) for folder in folders))
        raise OptionError(f"there is no adapter file {quoted(name)}, and none of that name in {looked}; give another")
    return found


def given_choice(rule: ScaleRule, adapter: Path | None) -> Choice:
    """Return the choice of a scale that the command was told to take. ``adapter``: its file, None for a fixed one."""
    if isinstance(rule, Guarded) and adapter is not None:
        return _fitted(rule.adapter, rule, adapter.stem, "--adapter names it")
    assert isinstance(rule, FixedScale)  # there is nothing else to give
    return _fixed(rule.value, "--scale says so")


def choose_scales(pipe: Any, concepts: Sequence[Concept], rule: str, calibrates: bool) -> list[Choice]:
    """Return the best scale that there is for each concept on a pipeline, as the WebUI's Automatic does.

    That is a trained adapter; else a calibration, which is made now where there is none, if ``calibrates``; else the
    fixed scale of the model family. ``rule``: the erasing rule; one that takes no adapters has a usual scale.
    """
    erasing = erasing_rule(rule)
    if not erasing.takes_adapters:
        return [_fixed(erasing.range.default, f"it is the usual one of {rule}")] * len(concepts)
    return [_automatic(pipe, concept, calibrates) for concept in concepts]


def _automatic(pipe: Any, concept: Concept, calibrates: bool) -> Choice:
    from lib_gie.core.layers import family_of, find_cross_attention
    from lib_gie.hosts.diffusers.calibrating import kept_calibration
    from lib_gie.hosts.library import adapter_for

    layers = find_cross_attention(pipe.unet)
    base, heads = family_of(layers), [layer.heads for layer in layers]
    trained = adapter_for(concept.key, base, heads, adapter_folders())
    if trained is not None:
        return _guarded(trained.adapter, base, trained.name, "it was trained for this concept")
    kept = kept_calibration(pipe, concept)
    if kept is not None:
        return _guarded(kept.adapter, base, kept.name, f"{_LACKING}; it was calibrated before")
    if not calibrates:
        return _fixed(default_scale(base), f"{_LACKING}, and it is not calibrated")
    return _calibrated(pipe, concept, base)


def _calibrated(pipe: Any, concept: Concept, base: str) -> Choice:
    from lib_gie.hosts.diffusers.calibrating import calibrate_now

    try:
        made = calibrate_now(pipe, concept)
    except (AdapterError, ErasureError, UnsupportedModelError) as error:
        return _fixed(default_scale(base), f"{_LACKING}, and it cannot be calibrated: {error}")
    found = made.calibration
    why = f"{_LACKING}; it was calibrated now, in {made.evaluations}"
    lost = f", and not kept: {made.reason}" if made.path is None else ""
    warning = f"; {found.info.warning}" if found.info.warning else ""
    return _guarded(found, base, made.name, why + lost + warning)


def _guarded(fitted: Fitted, base: str, name: str, why: str) -> Choice:
    return _fitted(fitted, guarded(fitted, default_scale(base)), name, why)


def _fitted(fitted: Fitted, rule: ScaleRule, name: str, why: str) -> Choice:
    source = ScaleSource(name, fitted.weights_digest[:10], DEFAULT_SCALE)
    kind = kind_name(fitted)
    return Choice(rule, source, name if kind in name else f"{kind} {name}", why)


def _fixed(scale: float, why: str) -> Choice:
    return Choice(FixedScale(scale), ScaleSource(None, None, scale), f"fixed scale {scale:g}", why)


def setters(eraser: Any, choices: Sequence[Choice], images: int) -> list[tuple[str, str]]:
    """Name what has set each concept's scale, and why: where there is a reason to, the fixed scale does if stronger."""
    replaced = [eraser.erasure.replacements(image) for image in range(images)]
    found = []
    for number, choice in enumerate(choices):
        told = [of_image[number] for of_image in replaced if of_image[number]]
        some = "" if len(told) == images else f" in {len(told)} of {images} images"
        reasons = "; ".join(dict.fromkeys(one.reason for one in told))
        is_replaced = (f"the fixed scale{some}, stronger than that of the {choice.by}", reasons)
        found.append(is_replaced if told else (choice.by, choice.why))
    return found
