"""The figures by which the settings of the judge "self" were chosen: its agreement with the detector under others."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence

import torch
from tqdm import tqdm

from lib_gie.demo.world.concepts import CONCEPTS
from lib_gie.training.image_maker import ImageMaker
from lib_gie.training.judges.self_judge import NOISES, PART, TIMESTEPS, SelfJudge, best_part

from .figures import table
from .judging import Seen, auc_of, batches_of

JUDGE = "self"
CHOICES = tuple(range(100, 1000, 100))
"""Timesteps to choose from."""


def _ranges() -> Iterator[tuple[int, ...]]:
    """Yield each timestep alone, and the runs that the judge might take."""
    yield from ((timestep,) for timestep in CHOICES)
    yield from (CHOICES[:3], CHOICES[3:6], CHOICES[4:7], CHOICES[5:8], CHOICES[6:], TIMESTEPS, CHOICES[1:8], CHOICES)


def choices(maker: ImageMaker, seen: Sequence[Seen]) -> str:
    """Return a table of median AUCs over the concepts, by timesteps and by the part of the image that counts."""
    shown = {concept: [concept in image.shown for image in seen] for concept in CONCEPTS}
    errors = {}
    for concept in tqdm(CONCEPTS, desc="noise errors"):
        judge = SelfJudge(maker, concept, CHOICES)
        errors[concept] = torch.cat(
            [judge.errors(made.latents, texts) for made, texts in batches_of(seen)], 1
        )  # [2, B, T, h, w]

    def median(numbers: Sequence[int], part: float) -> str:
        scores = {concept: best_part(found[:, :, numbers], part).tolist() for concept, found in errors.items()}
        return f"{statistics.median(auc_of(scores[concept], shown[concept]) for concept in scores):.3f}"

    rows = []
    for timesteps in _ranges():
        numbers = [CHOICES.index(t) * NOISES + k for t in timesteps for k in range(NOISES)]
        values = [median(numbers, part) for part in (1, 0.25, PART)]
        single = [median(numbers[::NOISES], PART)]
        rows.append((", ".join(map(str, timesteps)), *values, *single))
    header = ("timesteps", "whole image", "best quarter of the sides", "best half", "best half, one noise")
    return table(header, rows)
