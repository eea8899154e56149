"""What an adapter's file and its trainer's report say about how it was made and how well it fits."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from ..adapter import Adapter
from .fitting import Fit, Recipe
from .host import Host
from .judges import Judge
from .labels import Label


def summary(result: Fit, labels: Mapping[str, Sequence[Label]]) -> dict:
    """Plain figures: samples, labels, errors."""
    every = [label for part in labels.values() for label in part]
    return {
        "prompts": len({label.sample.prompt for label in every}),
        "images": len(every),
        "shown_without_erasure": sum(label.scale < 0 for label in every),
        "never_erased": sum(not label.erased for label in every),
        "others_lost": sum(bool(label.lost) for label in every),
        "mean_label": round(sum(label.scale for label in every) / len(every), 4),
        "train_error": round(result.train_error, 4),
        "validation_error": round(result.validation_error, 4),
        "constant": round(result.constant, 4),
        "constant_error": round(result.constant_error, 4),
        "best_epoch": result.best_epoch,
        "better_than_constant": result.is_better,
    }


def describe(
    result: Fit,
    labels: Mapping[str, Sequence[Label]],
    host: Host,
    judges: Mapping[str, Judge],
    recipe: Recipe,
) -> Adapter:
    """The adapter, ready to be saved, with what it was trained on and how well it fits in its metadata."""
    figures = summary(result, labels)
    names = ("train_error", "validation_error", "constant", "constant_error", "best_epoch", "better_than_constant")
    validation = {name: figures.pop(name) for name in names}
    training = {
        **figures,
        "images_from": host.description,
        "judge": sorted({judge.name for judge in judges.values()}),
        "recipe": dataclasses.asdict(recipe),
    }
    info = dataclasses.replace(result.adapter.info, training=training, validation=validation)
    result.adapter.info = info
    return result.adapter
