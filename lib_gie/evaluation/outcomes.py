"""The outcomes of methods, job by job. Processes share the work, and outcomes are kept on disk if wanted."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lib_gie.demo.world import detector
from lib_gie.demo.world.splits import UNRELATED
from lib_gie.demo.world.styles import STYLES
from lib_gie.hosts.diffusers import processes
from lib_gie.json_lines import KeptResults, identity_digest

from .generate import Job, images_of
from .methods import Method

_MARGIN = 3  # pixels: half of the window that SSIM looks through


@dataclass(frozen=True)
class Outcome:
    """What the detector sees in an image, and the image's SSIM to the one without erasure.

    ``objects``: sorted, each as often as it shows. ``styles``: the keys of those that the background or an object is
    in, "plain" among them, sorted. ``backdrop``: the key of the background's style. ``similarity``: the SSIM of the
    whole image, for unrelated prompts. ``outside``: the SSIM outside the boxes of the things that are erased, where
    they show without erasure; a style has no box. None: not measured.
    """

    objects: tuple[str, ...]
    styles: tuple[str, ...]
    backdrop: str
    similarity: float | None = None
    outside: float | None = None

    @property
    def shown(self) -> frozenset[str]:
        """Return the objects, and the styles by their names in prompts: see ``Sight.shown``."""
        return frozenset(self.objects) | {STYLES[style].phrase for style in self.styles if STYLES[style].phrase}


def look(image: torch.Tensor) -> Outcome:
    """Return what the detector sees in an image, float32 [3, H, W], 0 to 1."""
    sight = detector.look(image)
    objects = sorted(find.name for find in sight.finds)
    return Outcome(tuple(objects), tuple(sorted(sight.styles)), sight.backdrop.style)


def ssim(a: torch.Tensor, b: torch.Tensor) -> float:
    """Return the structural similarity (Wang et al., 2004) of two images, float32 [3, H, W], 0 to 1."""
    from skimage.metrics import structural_similarity

    return float(structural_similarity(a.numpy(), b.numpy(), channel_axis=0, data_range=1.0))


def ssim_outside(a: torch.Tensor, b: torch.Tensor, boxes: Sequence[detector.Find]) -> float | None:
    """Return the SSIM of two images outside these boxes and a margin, None where there is no box."""
    from skimage.metrics import structural_similarity

    if not boxes:
        return None
    _, local = structural_similarity(a.numpy(), b.numpy(), channel_axis=0, data_range=1.0, full=True)  # [3, H, W]
    outside = np.ones(local.shape[1:], dtype=bool)  # [H, W]
    scale = a.shape[1] // detector.SEEN_SIZE  # the detector counts pixels of its own size
    for box in boxes:
        top, left, side = scale * box.y, scale * box.x, scale * detector.GLYPH
        rows = slice(max(0, top - _MARGIN), top + side + _MARGIN)
        outside[rows, max(0, left - _MARGIN) : left + side + _MARGIN] = False
    return float(local[:, outside].mean())


OutcomeKey = tuple[str, str, str, int]
"""Identity of the method, concepts that are erased, prompt, seed."""


def _read_outcome(entry: Any) -> tuple[OutcomeKey, Outcome]:
    method, concept, prompt, seed, objects, styles, *rest = entry
    return (method, concept, prompt, seed), Outcome(tuple(objects), tuple(styles), *rest)


def _write_outcome(key: OutcomeKey, outcome: Outcome) -> list[Any]:
    measured = outcome.similarity, outcome.outside
    return [*key, outcome.objects, outcome.styles, outcome.backdrop, *measured]


def kept_outcomes(folder: Path, identity: str) -> KeptResults[OutcomeKey, Outcome]:
    """Return the outcomes that are kept in a folder.

    ``identity``: all that they depend on beside method, job and the detector, whose version is added.
    """
    identity = f"{identity}, detector {detector.VERSION}"
    own = folder / identity_digest(identity)
    kept = KeptResults(own / f"{processes.rank()}.jsonl", "*.jsonl", read=_read_outcome, write=_write_outcome)
    (own / "identity.txt").write_text(identity + "\n", encoding="utf-8")
    return kept


def _image(job: Job) -> tuple[str, int]:
    """Return what an image without erasure depends on: the prompt's text and the seed."""
    return job.prompt.text, job.seed


class Comparer:
    """Makes methods' images and looks at them; each process makes its share.

    ``plain``: the method without erasure. ``before``: its outcomes. Its images, and where the detector sees what in
    them, stay in memory once they are made, for the SSIM of the others.
    """

    def __init__(self, plain: Method, jobs: Sequence[Job], kept: KeptResults[OutcomeKey, Outcome] | None = None):
        self.plain, self.jobs, self.kept = plain, list(jobs), kept
        self._images: dict[tuple[str, int], torch.Tensor] = {}  # by text and seed, [3, H, W]
        self._finds: dict[tuple[str, int], Sequence[detector.Find]] = {}  # by text and seed
        self.before = self._measure(plain, self._look_at_plain)

    def outcomes(self, method: Method) -> dict[Job, Outcome]:
        """Return the outcome of every job that the method covers."""
        return self._measure(method, self._look_at)

    def _key(self, method: Method, job: Job) -> OutcomeKey:
        erased = "" if method is self.plain else job.concept
        return method.identity(job), erased, job.prompt.text, job.seed

    def _known(self, method: Method, job: Job) -> Outcome | None:
        if method is not self.plain and method.same(job):
            before, unrelated = self.before[job], job.prompt.kind in UNRELATED
            shown = not unrelated and bool(set(job.concepts) & set(before.objects))
            return replace(before, similarity=1.0 if unrelated else None, outside=1.0 if shown else None)
        return self.kept.found.get(self._key(method, job)) if self.kept else None

    def _measure(self, method: Method, look_at: Callable[[Job, torch.Tensor], Outcome]) -> dict[Job, Outcome]:
        mine = [job for job in processes.share(self.jobs) if method.covers(job)]
        known = {job: self._known(method, job) for job in mine}
        lacking = [job for job, outcome in known.items() if outcome is None]
        result = {job: outcome for job, outcome in known.items() if outcome is not None}
        made = self._make(method, {self._key(method, job): job for job in lacking}, look_at)
        result |= {job: made[self._key(method, job)] for job in lacking}
        gathered = dict(processes.gather(list(result.items())))
        return {job: gathered[job] for job in self.jobs if job in gathered}  # in their order, whoever made them

    def _make(
        self, method: Method, jobs: Mapping[OutcomeKey, Job], look_at: Callable[[Job, torch.Tensor], Outcome]
    ) -> dict[OutcomeKey, Outcome]:
        """Make the images of jobs and look at them. Jobs whose outcomes have the same key are alike."""
        todo, keys, result = list(jobs.values()), list(jobs), {}
        if method is not self.plain:
            self._make_plain_images(todo)
        for number, image in images_of(method.make, todo, method.name):
            result[keys[number]] = outcome = look_at(todo[number], image)
            if self.kept:
                self.kept.add(keys[number], outcome)
        return result

    def _make_plain_images(self, jobs: Sequence[Job]) -> None:
        lacking = list({_image(job): job for job in jobs if _image(job) not in self._images}.values())
        for number, image in images_of(self.plain.make, lacking, "images without erasure"):
            self._images[_image(lacking[number])] = image

    def _look_at_plain(self, job: Job, image: torch.Tensor) -> Outcome:
        self._images[_image(job)] = image
        return look(image)

    def _look_at(self, job: Job, image: torch.Tensor) -> Outcome:
        before, found = self._images[_image(job)], look(image)
        if job.prompt.kind in UNRELATED:
            return replace(found, similarity=ssim(before, image))
        boxes = [find for find in self._seen_before(job) if find.name in job.concepts]
        return replace(found, outside=ssim_outside(before, image, boxes))

    def _seen_before(self, job: Job) -> Sequence[detector.Find]:
        """Return what the detector finds in a job's image without erasure, which it looks at once for all methods."""
        key = _image(job)
        if key not in self._finds:
            self._finds[key] = detector.look(self._images[key]).finds
        return self._finds[key]
