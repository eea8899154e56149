"""The figures of an erasure: how much of the concept is left, how much of everything else is kept."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from lib_gie.demo.splits import load_split

from .figures import Mean, Share, as_json, table
from .generate import Job
from .outcomes import Outcome

KINDS = ("explicit", "implicit", "unrelated")


@dataclass
class MethodFigures:
    """One method on one kind of prompt, compared with the images without erasure.

    ``left``: the share of images that still show the concept, among those that show it without erasure. ``kept``: the
    share of the prompt's other objects that still show, among those that show without erasure. ``unharmed``: the share
    of images in which every object beside the concept that shows without erasure still shows. ``replaced``: the share
    of images with a new object, or a new copy of one, among those that the concept was erased from. ``similarity``:
    SSIM to the image without erasure, on unrelated prompts. ``outside``: SSIM outside the concept's objects, of the
    images that the concept was erased from.
    """

    method: str
    prompts: str
    left: Share = field(default_factory=Share)
    kept: Share = field(default_factory=Share)
    unharmed: Share = field(default_factory=Share)
    replaced: Share = field(default_factory=Share)
    similarity: Mean = field(default_factory=Mean)
    outside: Mean = field(default_factory=Mean)

    def count(self, job: Job, before: Outcome, after: Outcome) -> None:
        """Count one image, by what is seen without and with erasure."""
        concept, found, still = job.prompt.concept, set(before.objects), set(after.objects)
        if concept in found:
            self.left.add(concept in still)
            if concept not in still:
                self.replaced.add(bool(Counter(after.objects) - Counter(before.objects)))
        for name in (found & set(job.prompt.objects)) - {concept}:
            self.kept.add(name in still)
        self.unharmed.add((found - {concept}) <= still)
        if after.outside is not None and concept not in still:
            self.outside.add(after.outside)
        if after.similarity is not None:
            self.similarity.add(after.similarity)

    def as_json(self) -> dict:
        """Return one object of the command's JSON list."""
        result: dict = {"method": self.method, "prompts": self.prompts, "n": self.unharmed.total}
        for name in ("left", "kept", "unharmed", "replaced"):
            result[name], result[f"{name}_ci"] = as_json(getattr(self, name))
        result["ssim"], result["ssim_ci"] = as_json(self.similarity)
        result["ssim_outside"], result["ssim_outside_ci"] = as_json(self.outside)
        return result


def jobs_of(split: str, seeds: int) -> list[Job]:
    """Return every prompt of a split with this many of the split's seeds."""
    prompts, numbers = load_split(split)
    return [Job(prompt, seed) for prompt in prompts for seed in numbers[:seeds]]


def compare(method: str, before: Mapping[Job, Outcome], after: Mapping[Job, Outcome]) -> list[MethodFigures]:
    """Return one method's figures, by kind of prompt. ``after`` may cover fewer jobs than ``before``."""
    rows = {kind: MethodFigures(method, kind) for kind in KINDS}
    for job, outcome in after.items():
        rows[job.prompt.kind].count(job, before[job], outcome)
    return list(rows.values())


def sum_of_errors(rows: Sequence[MethodFigures]) -> float:
    """Return the sum of errors, by which a scale is chosen: shares left and lost, over the kinds of prompt."""
    return sum(
        (row.left.value if row.left.total else 0.0)
        + (1 - row.kept.value if row.kept.total else 0.0)
        + (1 - row.unharmed.value if row.prompts == "unrelated" else 0.0)
        for row in rows
    )


def per_concept(before: Mapping[Job, Outcome], after: Mapping[Job, Outcome]) -> dict[str, list[Share]]:
    """Return for every concept the shares left, explicit and implicit, and the share of unharmed unrelated images."""
    result: dict[str, list[Share]] = {}
    for job, outcome in after.items():
        concept, found, still = job.prompt.concept, set(before[job].objects), set(outcome.objects)
        shares = result.setdefault(concept, [Share(), Share(), Share()])
        if job.prompt.kind == "unrelated":
            shares[2].add(found - {concept} <= still)
        elif concept in found:
            shares[KINDS.index(job.prompt.kind)].add(concept in still)
    return result


def methods_table(rows: Sequence[MethodFigures]) -> str:
    """Return the table of all methods."""
    header = (
        "method", "prompts", "images", "erased object left", "other objects kept", "images unharmed", "replaced", "SSIM"
    )  # fmt: skip
    lines = [
        (r.method, r.prompts, r.unharmed.total, r.left, r.kept, r.unharmed, r.replaced, r.similarity) for r in rows
    ]
    return table(header, lines)


def outside_table(rows: Sequence[MethodFigures], names: Sequence[str]) -> str:
    """Return a table of how close these methods' images stay to those without erasure, outside what was erased."""
    header = ("method", "prompts", "images", "SSIM outside the erased object", "erased object left", "images unharmed")
    lines = [
        (row.method, row.prompts, row.outside.total, row.outside, row.left, row.unharmed)
        for row in rows
        if row.method in names and row.outside.total
    ]
    return table(header, lines)


def errors_table(rows: Sequence[MethodFigures]) -> str:
    """Return a table of every method's sum of errors, the best first."""
    methods = list(dict.fromkeys(row.method for row in rows))
    sums = {name: sum_of_errors([row for row in rows if row.method == name]) for name in methods}
    best_first = sorted(sums, key=sums.__getitem__)
    return table(("method", "sum of errors"), [(name, f"{sums[name]:.3f}") for name in best_first])


def concepts_table(name: str, before: Mapping[Job, Outcome], after: Mapping[Job, Outcome]) -> str:
    """Return a table of one method, concept by concept."""
    header = (f"concept ({name})", "left, explicit", "left, implicit", "unrelated unharmed")
    return table(header, [(concept, *shares) for concept, shares in per_concept(before, after).items()])
