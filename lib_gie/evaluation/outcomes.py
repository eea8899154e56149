"""The outcomes of methods, job by job. Processes share the work, and outcomes are kept on disk if wanted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lib_gie.demo.detector import find_objects
from lib_gie.demo.glyphs import GLYPH_SIZE
from lib_gie.hosts.diffusers import processes
from lib_gie.json_lines import KeptResults, identity_digest

from .generate import Job, images_of
from .methods import Method

_MARGIN = 3  # pixels: half of the window that SSIM looks through


@dataclass(frozen=True)
class Outcome:
    """The objects in an image, each as often as it shows, and its SSIM to the image without erasure.

    ``similarity``: the SSIM of the whole image, for unrelated prompts. ``outside``: the SSIM outside the boxes of the
    concept to be erased, where that shows without erasure. None: not measured.
    """

    objects: tuple[str, ...]
    similarity: float | None = None
    outside: float | None = None


def look(image: torch.Tensor) -> Outcome:
    """Return what the detector finds in an image, float32 [3, H, W], 0 to 1."""
    return Outcome(tuple(sorted(find.name for find in find_objects(image))))


def ssim(a: torch.Tensor, b: torch.Tensor) -> float:
    """Return the structural similarity (Wang et al., 2004) of two images, float32 [3, H, W], 0 to 1."""
    from skimage.metrics import structural_similarity

    return float(structural_similarity(a.numpy(), b.numpy(), channel_axis=0, data_range=1.0))


def ssim_outside(a: torch.Tensor, b: torch.Tensor, concept: str) -> float | None:
    """Return the SSIM without the boxes of a concept's objects in ``a`` and a margin, None where ``a`` shows none."""
    from skimage.metrics import structural_similarity

    boxes = [find for find in find_objects(a) if find.name == concept]
    if not boxes:
        return None
    _, local = structural_similarity(a.numpy(), b.numpy(), channel_axis=0, data_range=1.0, full=True)  # [3, H, W]
    outside = np.ones(local.shape[1:], dtype=bool)  # [H, W]
    for box in boxes:
        top, left = max(0, box.y - _MARGIN), max(0, box.x - _MARGIN)
        outside[top : box.y + GLYPH_SIZE + _MARGIN, left : box.x + GLYPH_SIZE + _MARGIN] = False
    return float(local[:, outside].mean())


OutcomeKey = tuple[str, str, int]
"""Identity of the method, prompt, seed."""


def _read_outcome(entry: Any) -> tuple[OutcomeKey, Outcome]:
    method, prompt, seed, objects, *measured = entry
    return (method, prompt, seed), Outcome(tuple(objects), *measured)


def _write_outcome(key: OutcomeKey, outcome: Outcome) -> list[Any]:
    return [*key, outcome.objects, outcome.similarity, outcome.outside]


def kept_outcomes(folder: Path, identity: str) -> KeptResults[OutcomeKey, Outcome]:
    """Return the outcomes that are kept in a folder. ``identity``: all that they depend on beside method and job."""
    own = folder / identity_digest(identity)
    kept = KeptResults(own / f"{processes.rank()}.jsonl", "*.jsonl", read=_read_outcome, write=_write_outcome)
    (own / "identity.txt").write_text(identity + "\n", encoding="utf-8")
    return kept


def _key(method: Method, job: Job) -> OutcomeKey:
    return method.identity, job.prompt.text, job.seed


class Comparer:
    """Makes methods' images and looks at them; each process makes its share.

    ``plain``: the method without erasure. ``before``: its outcomes. Its images stay in memory once they are made, for
    the SSIM of the others.
    """

    def __init__(self, plain: Method, jobs: Sequence[Job], kept: KeptResults[OutcomeKey, Outcome] | None = None):
        self.plain, self.jobs, self.kept = plain, list(jobs), kept
        self._images: dict[Job, torch.Tensor] = {}  # [3, H, W]
        self.before = self._measure(plain, self._look_at_plain)

    def outcomes(self, method: Method) -> dict[Job, Outcome]:
        """Return the outcome of every job that the method covers."""
        return self._measure(method, self._look_at)

    def _known(self, method: Method, job: Job) -> Outcome | None:
        if method is not self.plain and method.same(job):
            before, unrelated = self.before[job], job.prompt.kind == "unrelated"
            shown = not unrelated and job.prompt.concept in before.objects
            return Outcome(before.objects, 1.0 if unrelated else None, 1.0 if shown else None)
        return self.kept.found.get(_key(method, job)) if self.kept else None

    def _measure(self, method: Method, look_at: Callable[[Job, torch.Tensor], Outcome]) -> dict[Job, Outcome]:
        mine = [job for job in processes.share(self.jobs) if method.covers(job)]
        known = {job: self._known(method, job) for job in mine}
        todo = [job for job, outcome in known.items() if outcome is None]
        result = {job: outcome for job, outcome in known.items() if outcome is not None}
        if method is not self.plain:
            self._make_plain_images(todo)
        for number, image in images_of(method.make, todo, method.name):
            job = todo[number]
            result[job] = look_at(job, image)
            if self.kept:
                self.kept.add(_key(method, job), result[job])
        gathered = dict(processes.gather(list(result.items())))
        return {job: gathered[job] for job in self.jobs if job in gathered}  # in their order, whoever made them

    def _make_plain_images(self, jobs: Sequence[Job]) -> None:
        lacking = [job for job in jobs if job not in self._images]
        for number, image in images_of(self.plain.make, lacking, "images without erasure"):
            self._images[lacking[number]] = image

    def _look_at_plain(self, job: Job, image: torch.Tensor) -> Outcome:
        self._images[job] = image
        return look(image)

    def _look_at(self, job: Job, image: torch.Tensor) -> Outcome:
        before, objects = self._images[job], look(image).objects
        if job.prompt.kind == "unrelated":
            return Outcome(objects, ssim(before, image))
        return Outcome(objects, None, ssim_outside(before, image, job.prompt.concept))
