"""How much of an erased concept is left, how much of everything else is kept (DESIGN, part 6)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ..demo.detector import detect
from ..demo.splits import load_split
from .figures import Share, as_json, table
from .generate import Job, images_of

KINDS = ("explicit", "implicit", "unrelated")


@dataclass
class Row:
    """One method on one kind of prompt.

    ``left``: of the images that show the concept without erasure, those that still show it. ``kept``: of the prompt's
    other objects that show without erasure, those that still show. ``unharmed``: of all images, those in which every
    object beside the concept that shows without erasure still shows.
    """

    method: str
    prompts: str
    left: Share = field(default_factory=Share)
    kept: Share = field(default_factory=Share)
    unharmed: Share = field(default_factory=Share)

    def count(self, concept: str, before: frozenset[str], after: frozenset[str], named: frozenset[str]) -> None:
        """Add one image: the objects found without and with erasure, and those that the prompt asks for."""
        if concept in before:
            self.left.add(concept in after)
        for name in (before & named) - {concept}:
            self.kept.add(name in after)
        self.unharmed.add((before - {concept}) <= after)

    def as_json(self) -> dict:
        """One object of the command's JSON list."""
        result: dict = {"method": self.method, "prompts": self.prompts, "n": self.unharmed.total}
        for name in ("left", "kept", "unharmed"):
            result[name], result[f"{name}_ci"] = as_json(getattr(self, name))
        return result


def jobs_of(split: str, seeds: int) -> list[Job]:
    """Every prompt of a split with so many of the split's seeds."""
    prompts, numbers = load_split(split)
    return [Job(prompt, seed) for prompt in prompts for seed in numbers[:seeds]]


def detect_all(pipe: Any, jobs: Sequence[Job], label: str, erase: dict | None = None) -> list[frozenset[str]]:
    """The objects in the image of every job."""
    return [detect(image) for image in images_of(pipe, jobs, label, erase)]


def compare(
    method: str, jobs: Sequence[Job], before: Sequence[frozenset[str]], after: Sequence[frozenset[str]]
) -> list[Row]:
    """The rows of one method, one per kind of prompt."""
    rows = {kind: Row(method, kind) for kind in KINDS}
    for job, found, left in zip(jobs, before, after, strict=True):
        rows[job.prompt.kind].count(job.prompt.concept, found, left, frozenset(job.prompt.objects))
    return list(rows.values())


def sum_of_errors(rows: Sequence[Row]) -> float:
    """What a scale is chosen by: what is left plus what is lost, over the kinds of prompt (smaller is better)."""
    return sum(
        (row.left.value if row.left.total else 0.0)
        + (1 - row.kept.value if row.kept.total else 0.0)
        + (1 - row.unharmed.value if row.prompts == "unrelated" else 0.0)
        for row in rows
    )


def per_concept(
    jobs: Sequence[Job], before: Sequence[frozenset[str]], after: Sequence[frozenset[str]]
) -> dict[str, dict[str, Share]]:
    """What is left of every concept, explicit and implicit apart."""
    result: dict[str, dict[str, Share]] = {}
    for job, found, left in zip(jobs, before, after, strict=True):
        concept, kind = job.prompt.concept, job.prompt.kind
        if kind != "unrelated" and concept in found:
            result.setdefault(concept, {name: Share() for name in KINDS[:2]})[kind].add(concept in left)
    return result


def format_rows(rows: Sequence[Row]) -> str:
    """The table that people read."""
    header = ("method", "prompts", "n", "erased object left", "other objects kept", "images unharmed")
    return table(header, [(r.method, r.prompts, r.unharmed.total, r.left, r.kept, r.unharmed) for r in rows])
