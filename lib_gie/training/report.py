"""The figures of a training, for its report and for the adapter's metadata."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from lib_gie.core.scales.adapter import Adapter
from lib_gie.core.scales.fitted import GOOD_ENOUGH

from .fitting import Fit, Recipe
from .image_maker import ImageMaker
from .judges import Judge
from .labels import Label


def summary(result: Fit, labels: Mapping[str, Sequence[Label]]) -> dict[str, Any]:
    """Return plain figures of samples, labels and errors."""
    every = [label for part in labels.values() for label in part]
    seen = [label for label in every if label.images]
    presumed = [label for label in every if not label.images and label.sample.kind != "unrelated"]
    shown = [label.scale for label in seen if label.scale < 0]
    return {
        "prompts": len({label.sample.prompt for label in every}),
        "unrelated_prompts": len({label.sample.prompt for label in every if label.sample.kind == "unrelated"}),
        "presumed_prompts": len({label.sample.prompt for label in presumed}),
        "labelled": len(seen),
        "images": sum(label.images for label in seen),
        "shown_without_erasure": len(shown),
        "never_erased": sum(not label.erased for label in seen),
        "others_lost": sum(bool(label.lost) for label in seen),
        "mean_label_where_shown": round(sum(shown) / len(shown), 4) if shown else 0.0,
        "train_error": round(result.train_error, 4),
        "validation_error": round(result.validation_error, 4),
        "constant": round(result.constant, 4),
        "constant_error": round(result.constant_error, 4),
        "best_epoch": result.best_epoch,
        "better_than_constant": result.is_better,
    }


MUCH_BETTER = 0.5
"""The share of the error of one fixed scale that a good adapter's does not exceed. Those of the adapters in models/
are at most a tenth of it."""


def is_good(result: Fit, figures: Mapping[str, Any]) -> bool:
    """Tell whether images showed that scales erase the concept, and the adapter predicts these much better than one.

    ``figures``: those of ``summary``.
    """
    return _is_much_better(result) and not _in_vain(figures)


def _is_good_enough(result: Fit, figures: Mapping[str, Any]) -> bool:
    """Tell whether an adapter may be taken for its concept where nobody has named it."""
    return result.is_better and not _in_vain(figures)


def _is_much_better(result: Fit) -> bool:
    return result.is_better and result.validation_error <= MUCH_BETTER * result.constant_error


def verdict(result: Fit, figures: Mapping[str, Any], name: str) -> str:
    """Return one sentence that says whether an adapter is good, and where it is not, what to do.

    See ``is_good``. ``figures``: those of ``summary``. ``name``: the adapter's.
    """
    if reason := _in_vain(figures):
        return f"{name} is not good enough, because {reason}."
    if _is_much_better(result):
        return (
            f"{name} is good: for prompts that it was not trained on it finds much better scales than one fixed scale "
            f"for all prompts."
        )
    if result.is_better:
        return (
            f"{name} is not good yet, because for prompts that it was not trained on it finds scales that are only a "
            f"little better than one fixed scale for all prompts: train it again with more than these "
            f"{figures['prompts']} prompts, some of each kind."
        )
    return (
        f"{name} is not good enough, because for prompts that it was not trained on one fixed scale for all prompts "
        f"is as good or better: train it again with more than these {figures['prompts']} prompts, some of each kind, "
        f"and choose the fixed scale until then."
    )


def _in_vain(figures: Mapping[str, Any]) -> str:
    """Return why labels say nothing of how to erase the concept, and what to do; "" where they say it.

    However well an adapter predicts such labels, nobody has seen it erase anything.
    """
    shown, resisted = figures["shown_without_erasure"], figures["never_erased"]
    if figures["labelled"] and not shown:
        return (
            "the judge saw the concept in none of the images, so take another judge if it is in them, and prompts that "
            "the checkpoint draws it for if it is not"
        )
    if 2 * resisted > shown:
        return (
            f"no scale erased the concept in {resisted} of {shown} images, so let stronger scales be tried, or take "
            f"another judge if the images no longer show it"
        )
    return ""


def describe(
    result: Fit,
    labels: Mapping[str, Sequence[Label]],
    maker: ImageMaker,
    judges: Mapping[str, Judge],
    recipe: Recipe,
    more: Mapping[str, Any],
) -> Adapter:
    """Return the adapter, ready to be saved. Its metadata says what it was trained on and how well it fits.

    ``more``: further entries of its training.
    """
    figures = summary(result, labels)
    names = ("train_error", "validation_error", "constant", "constant_error", "best_epoch", "better_than_constant")
    validation = {GOOD_ENOUGH: _is_good_enough(result, figures), **{name: figures.pop(name) for name in names}}
    training = {
        **figures,
        "images_from": maker.description,
        "judge": sorted({judge.name for judge in judges.values()}),
        "recipe": dataclasses.asdict(recipe),
        **more,
    }
    info = dataclasses.replace(result.adapter.info, training=training, validation=validation)
    result.adapter.info = info
    return result.adapter
