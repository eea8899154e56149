"""What is seen in the images of a method, job by job; shared among processes, and kept on disk if wanted."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from lib_gie.demo.detector import find_objects
from lib_gie.demo.glyphs import GLYPH_SIZE
from lib_gie.hosts.diffusers import processes
from lib_gie.json_lines import append_entry, read_entries

from .generate import Job, images_of
from .methods import Method

_MARGIN = 3  # pixels: half of the window that SSIM looks through


@dataclass(frozen=True)
class Outcome:
    """The objects in an image, each as often as it shows, and the SSIM to the image without erasure, if measured.

    ``similarity``: of all of it, for unrelated prompts. ``outside``: of what lies outside the boxes of the concept to
    be erased, where that shows without erasure.
    """

    objects: tuple[str, ...]
    similarity: float | None = None
    outside: float | None = None


def look(image: torch.Tensor) -> Outcome:
    """What the detector finds in an image, float32 [3, H, W], 0 to 1."""
    return Outcome(tuple(sorted(find.name for find in find_objects(image))))


def ssim(a: torch.Tensor, b: torch.Tensor) -> float:
    """Structural similarity (Wang et al., 2004) of two images, float32 [3, H, W], 0 to 1."""
    from skimage.metrics import structural_similarity

    return float(structural_similarity(a.numpy(), b.numpy(), channel_axis=0, data_range=1.0))


def ssim_outside(a: torch.Tensor, b: torch.Tensor, concept: str) -> float | None:
    """The same without the boxes of a concept's objects in ``a`` and a margin; None where ``a`` does not show any."""
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


class Kept:
    """Outcomes on disk, so that a long comparison that was interrupted goes on where it was.

    ``identity``: all that the outcomes depend on beside method and job. Every process writes a file of its own.
    """

    def __init__(self, folder: Path, identity: str):
        self.folder = folder / hashlib.sha256(identity.encode()).hexdigest()[:12]
        self.found: dict[tuple[str, str, int], Outcome] = {}
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "identity.txt").write_text(identity + "\n", encoding="utf-8")
        for path in sorted(self.folder.glob("*.jsonl")):
            for entry in read_entries(path):
                self._take(entry)

    def _take(self, entry: Sequence) -> None:
        method, prompt, seed, objects, *measured = entry
        self.found[method, prompt, seed] = Outcome(tuple(objects), *measured)

    def get(self, method: str, job: Job) -> Outcome | None:
        """The outcome of a job, if it is known."""
        return self.found.get((method, job.prompt.text, job.seed))

    def add(self, method: str, job: Job, outcome: Outcome) -> None:
        """Keep one outcome."""
        entry = [method, job.prompt.text, job.seed, outcome.objects, outcome.similarity, outcome.outside]
        self._take(entry)
        append_entry(self.folder / f"{processes.rank()}.jsonl", entry)


class Comparer:
    """Makes methods' images and says what is seen in them; each process makes its share.

    ``plain``: the method without erasure. ``before``: its outcomes. Its images are kept in memory from when they are
    first made, for the SSIM of the others.
    """

    def __init__(self, plain: Method, jobs: Sequence[Job], kept: Kept | None = None):
        self.plain, self.jobs, self.kept = plain, list(jobs), kept
        self._images: dict[Job, torch.Tensor] = {}  # [3, H, W]
        self.before = self._measure(plain, self._look_at_plain)

    def outcomes(self, method: Method) -> dict[Job, Outcome]:
        """The outcome of every job that the method covers."""
        return self._measure(method, self._look_at)

    def _known(self, method: Method, job: Job) -> Outcome | None:
        if method is not self.plain and method.same(job):
            before, unrelated = self.before[job], job.prompt.kind == "unrelated"
            shown = not unrelated and job.prompt.concept in before.objects
            return Outcome(before.objects, 1.0 if unrelated else None, 1.0 if shown else None)
        return self.kept.get(method.identity, job) if self.kept else None

    def _measure(self, method: Method, look_at: Callable[[Job, torch.Tensor], Outcome]) -> dict[Job, Outcome]:
        mine = [job for job in processes.share(self.jobs) if method.covers(job)]
        result = {job: self._known(method, job) for job in mine}
        todo = [job for job, known in result.items() if known is None]
        if method is not self.plain:
            self._make_plain_images(todo)
        for number, image in images_of(method.make, todo, method.name):
            job = todo[number]
            result[job] = look_at(job, image)
            if self.kept:
                self.kept.add(method.identity, job, result[job])
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
