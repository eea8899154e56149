"""The figures of an erasure: how much of the concept is left, how much of everything else is kept."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from lib_gie.demo.world.concepts import STYLE_OF
from lib_gie.demo.world.splits import KINDS, load_split
from lib_gie.demo.world.styles import STYLES
from lib_gie.demo.world.things import NEIGHBOURS

from .figures import Mean, Share, as_json, table
from .generate import Job
from .outcomes import Outcome

MAIN = ("named", "implied", "unrelated")
"""The kinds of prompt that the main page shows, and that scales are chosen by."""


def _kept_names(job: Job) -> set[str]:
    """Return the prompt's objects that are to stay; of prompts of the kind "neighbour" the neighbour alone."""
    if job.prompt.kind == "neighbour":
        return {NEIGHBOURS[concept] for concept in job.own}
    return set(job.prompt.objects) - set(job.concepts)


def _keeps_style(job: Job) -> bool:
    """Tell whether a job's prompt is in a style that is to stay, other than the plain one."""
    return job.prompt.style != "plain" and STYLES[job.prompt.style].phrase not in job.concepts


def is_unharmed(job: Job, before: Outcome, after: Outcome) -> bool:
    """Tell whether every object that is not erased still shows, and the background's style is the same.

    The style may change where a style is erased that showed.
    """
    erased = set(job.concepts)
    objects = set(before.objects) - erased <= set(after.objects)
    may_change = bool(erased & before.shown & STYLE_OF.keys())
    return objects and (may_change or before.backdrop == after.backdrop)


@dataclass
class MethodFigures:
    """One method on one kind of prompt, compared with the images without erasure.

    ``left``: of the prompt's concepts that show without erasure, the share that still does. ``kept``: the same of the
    prompt's other objects; of prompts of the kind "neighbour" it is that of the neighbour alone. ``unharmed``: the
    share of images that ``is_unharmed`` holds for. ``style_kept``: of the images in a style that the prompt asks for
    and that is not erased, those that are still in it. ``replaced``: of the images that a thing was erased from, the
    share with a new object, or a new copy of one. ``similarity``: SSIM to the image without erasure, on unrelated
    prompts. ``outside``: SSIM outside the erased things, of the images that they were erased from.
    """

    method: str
    prompts: str
    left: Share = field(default_factory=Share)
    kept: Share = field(default_factory=Share)
    unharmed: Share = field(default_factory=Share)
    style_kept: Share = field(default_factory=Share)
    replaced: Share = field(default_factory=Share)
    similarity: Mean = field(default_factory=Mean)
    outside: Mean = field(default_factory=Mean)

    def count(self, job: Job, before: Outcome, after: Outcome) -> None:
        """Count one image, by what is seen without and with erasure."""
        for concept in job.own:
            if concept in before.shown:
                self.left.add(concept in after.shown)
        for name in _kept_names(job) & set(before.objects):
            self.kept.add(name in after.objects)
        self.unharmed.add(is_unharmed(job, before, after))
        if _keeps_style(job) and job.prompt.style in before.styles:
            self.style_kept.add(job.prompt.style in after.styles)
        if after.similarity is not None:
            self.similarity.add(after.similarity)
        self._count_erased(job, before, after)

    def _count_erased(self, job: Job, before: Outcome, after: Outcome) -> None:
        """Count an image for what is there instead, if things were erased from it and none of them is left."""
        erased = (set(job.own) - STYLE_OF.keys()) & set(before.objects)
        if not erased or erased & set(after.objects):
            return
        self.replaced.add(bool(Counter(after.objects) - Counter(before.objects)))
        if after.outside is not None:
            self.outside.add(after.outside)

    def as_json(self) -> dict:
        """Return one object of the command's JSON list."""
        result: dict = {"method": self.method, "prompts": self.prompts, "n": self.unharmed.total}
        for name in ("left", "kept", "unharmed", "style_kept", "replaced"):
            result[name], result[f"{name}_ci"] = as_json(getattr(self, name))
        result["ssim"], result["ssim_ci"] = as_json(self.similarity)
        result["ssim_outside"], result["ssim_outside_ci"] = as_json(self.outside)
        return result


def jobs_of(split: str, seeds: int, kinds: Collection[str] = MAIN) -> list[Job]:
    """Return every prompt of these kinds of a split with this many of the split's seeds."""
    prompts, numbers = load_split(split)
    return [Job(prompt, seed) for prompt in prompts if prompt.kind in kinds for seed in numbers[:seeds]]


def compare(method: str, before: Mapping[Job, Outcome], after: Mapping[Job, Outcome]) -> list[MethodFigures]:
    """Return one method's figures, by kind of prompt. ``after`` may cover fewer jobs than ``before``."""
    rows = {kind: MethodFigures(method, kind) for kind in KINDS}
    for job, outcome in after.items():
        rows[job.prompt.kind].count(job, before[job], outcome)
    return [row for row in rows.values() if row.unharmed.total]


def sum_of_errors(rows: Sequence[MethodFigures]) -> float:
    """Return the sum of errors, by which a scale is chosen: shares left and lost, over the kinds of prompt in MAIN.

    What is left counts for named and implied prompts alone. Of the unrelated ones hardly an image shows the concept, by
    chance: its share would weigh as much as that of all the others.
    """
    return sum(
        (row.left.value if row.left.total and row.prompts != "unrelated" else 0.0)
        + (1 - row.kept.value if row.kept.total else 0.0)
        + (1 - row.unharmed.value if row.prompts == "unrelated" else 0.0)
        for row in rows
        if row.prompts in MAIN
    )


def per_concept(before: Mapping[Job, Outcome], after: Mapping[Job, Outcome]) -> dict[str, list[Share]]:
    """Return for every concept the shares left, named and implied, and the share of unharmed unrelated images."""
    result: dict[str, list[Share]] = {}
    for job, outcome in after.items():
        kind, concept = job.prompt.kind, job.prompt.concept
        if kind not in MAIN:
            continue
        shares = result.setdefault(concept, [Share() for _ in MAIN])
        if kind == "unrelated":
            shares[MAIN.index(kind)].add(is_unharmed(job, before[job], outcome))
        elif concept in before[job].shown:
            shares[MAIN.index(kind)].add(concept in outcome.shown)
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
    """Return a table of the sum of errors of every method that was measured on MAIN, the best first.

    It is empty where there is none.
    """
    by_method: dict[str, list[MethodFigures]] = {}
    for row in rows:
        by_method.setdefault(row.method, []).append(row)
    sums = {name: sum_of_errors(own) for name, own in by_method.items() if {*MAIN} <= {row.prompts for row in own}}
    best_first = sorted(sums, key=sums.__getitem__)
    lines = [(name, f"{sums[name]:.3f}") for name in best_first]
    return table(("method", "sum of errors"), lines) if lines else ""


def kinds_table(rows: Sequence[MethodFigures]) -> str:
    """Return the table of one method: a row for each kind of prompt."""
    header = ("prompts", "images", "left", "kept", "unharmed", "style kept", "replaced", "SSIM")
    lines = [
        (r.prompts, r.unharmed.total, r.left, r.kept, r.unharmed, r.style_kept, r.replaced, r.similarity) for r in rows
    ]
    return table(header, lines)


def concepts_table(name: str, before: Mapping[Job, Outcome], after: Mapping[Job, Outcome]) -> str:
    """Return a table of one method, concept by concept."""
    header = (f"concept ({name})", "left, named", "left, implied", "unrelated unharmed")
    return table(header, [(concept, *shares) for concept, shares in per_concept(before, after).items()])
