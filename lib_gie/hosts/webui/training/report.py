"""The report of a training: figures in words, and pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from lib_gie.pictures import SheetRow, contact_sheet, picture
from lib_gie.training.image_maker import ImageMaker
from lib_gie.training.labels import Label

from .progress import Captioned

_STRIP = (0.0, -0.5, -1.0, -2.0, -4.0)
_STRIPS = 3  # prompts of the report with an image per scale


def report_text(figures: Mapping[str, Any], name: str) -> str:
    """Return what the figures say (see ``training.report.summary``), in a few lines. ``name``: the adapter's."""
    return (
        f"{name} is trained and in the list of adapters. {figures['prompts']} prompts, of which "
        f"{figures['presumed_prompts']} were taken as the calibration says; {figures['images']} images for "
        f"{figures['labelled']} labels: the concept showed in {figures['shown_without_erasure']} without erasure and "
        f"resisted every scale in {figures['never_erased']}. On the prompts kept for validation the mean squared error "
        f"of the scale is {figures['validation_error']:g}, and {figures['constant_error']:g} with one fixed scale."
    )


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
