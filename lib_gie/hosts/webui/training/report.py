"""The report of a training: figures in words, and pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from lib_gie.core.concepts import Concept, format_concepts
from lib_gie.pictures import SheetRow, contact_sheet, picture
from lib_gie.training.image_maker import ImageMaker
from lib_gie.training.labels import Label

from .progress import Captioned

_STRIP = (0.0, -0.5, -1.0, -2.0, -4.0)
_STRIPS = 3  # prompts of the report with an image per scale


def report_text(figures: Mapping[str, Any], name: str, all_labelled: str) -> str:
    """Return what the figures say (see ``training.report.summary``), in a few lines. ``name``: the adapter's.

    ``all_labelled``: why every prompt was labelled; "" where not every one was.
    """
    why = f" Every prompt was labelled: {all_labelled}." if all_labelled else ""
    return (
        f"{name} is trained and in the list of adapters. {figures['prompts']} prompts, of which "
        f"{figures['presumed_prompts']} were taken as the calibration says; {figures['images']} images for "
        f"{figures['labelled']} labels: the concept showed in {figures['shown_without_erasure']} without erasure and "
        f"resisted every scale in {figures['never_erased']}. On the prompts kept for validation the mean squared error "
        f"of the scale is {figures['validation_error']:g}, and {figures['constant_error']:g} with one fixed scale.{why}"
    )


def use_text(name: str, concept: str, automatic: str) -> str:
    """Return how to use the adapter of that name, after a space. ``automatic``: what Automatic takes now, in words."""
    typed = f"To try it, open txt2img and type {format_concepts([Concept(concept)])} under Concepts to erase"
    choice = "." if automatic.endswith(f" the adapter {name}.") else f", and choose {name} under Adapter."
    return " ".join(["", *filter(None, [automatic]), typed + choice])


def strips(maker: ImageMaker, concept: str, labels: Sequence[Label]) -> list[Captioned]:
    """Draw an image per scale for a few prompts of different labels."""
    shown = sorted((label for label in labels if label.scale < 0), key=lambda label: label.scale)
    chosen = [shown[k * (len(shown) - 1) // max(1, _STRIPS - 1)] for k in range(_STRIPS)] if shown else []
    rows = []
    for label in dict.fromkeys(chosen):
        sample, count = label.sample, len(_STRIP)
        made = maker.make([sample.prompt] * count, [sample.seed] * count, concept, torch.tensor(_STRIP))
        rows.append(SheetRow(sample.prompt, f"label {label.scale:g}", [picture(image) for image in made.images]))
    if not rows:
        return []
    return [(contact_sheet([f"{scale:g}" for scale in _STRIP], rows), "a prompt per line, a scale per column")]
