"""What is seen in the images of a method, job by job; shared among processes, and kept on disk if wanted."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from ..demo.detector import find_objects
from ..pipeline import processes
from .generate import Job, images_of
from .methods import Method


@dataclass(frozen=True)
class Outcome:
    """The objects in an image, each as often as it shows, and the SSIM to the image without erasure, if measured."""

    objects: tuple[str, ...]
    similarity: float | None = None


def look(image: torch.Tensor) -> Outcome:
    """What the detector finds in an image, float32 [3, H, W], 0 to 1."""
    return Outcome(tuple(sorted(find.name for find in find_objects(image))))


def ssim(a: torch.Tensor, b: torch.Tensor) -> float:
    """Structural similarity (Wang et al., 2004) of two images, float32 [3, H, W], 0 to 1."""
    from skimage.metrics import structural_similarity

    return float(structural_similarity(a.numpy(), b.numpy(), channel_axis=0, data_range=1.0))


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
            for line in path.read_text(encoding="utf-8").splitlines():
                self._read(line)

    def _read(self, line: str) -> None:
        try:
            method, prompt, seed, objects, similarity = json.loads(line)
        except ValueError:
            return  # the line that an interruption cut off
        self.found[method, prompt, seed] = Outcome(tuple(objects), similarity)

    def get(self, method: str, job: Job) -> Outcome | None:
        """The outcome of a job, if it is known."""
        return self.found.get((method, job.prompt.text, job.seed))

    def add(self, method: str, job: Job, outcome: Outcome) -> None:
        """Keep one outcome."""
        line = json.dumps([method, job.prompt.text, job.seed, outcome.objects, outcome.similarity])
        self._read(line)
        with (self.folder / f"{processes.rank()}.jsonl").open("a", encoding="utf-8") as file:
            file.write("\n" + line)


def outcomes(
    method: Method,
    identity: str,
    jobs: Sequence[Job],
    before: Mapping[Job, Outcome] | None = None,
    plain_images: Mapping[Job, torch.Tensor] | None = None,
    kept: Kept | None = None,
) -> dict[Job, Outcome]:
    """The outcome of every job that the method covers; each process makes its share of the images.

    ``identity``: what the method's outcomes are kept under. ``before``: the outcomes without erasure, None when these
    are them. ``plain_images``: this process's images without erasure (float32 [3, H, W]) to compare with.
    """
    result: dict[Job, Outcome] = {}
    todo = []
    for job in filter(method.covers, processes.share(jobs)):
        known = kept.get(identity, job) if kept else None
        if before is not None and method.same(job):
            known = Outcome(before[job].objects, 1.0 if job.prompt.kind == "unrelated" else None)
        if known is None:
            todo.append(job)
        else:
            result[job] = known
    for number, image in images_of(method.make, todo, method.name):
        job = todo[number]
        outcome = look(image)
        if plain_images is not None and job in plain_images:
            outcome = Outcome(outcome.objects, ssim(plain_images[job], image))
        result[job] = outcome
        if kept:
            kept.add(identity, job, outcome)
    gathered = dict(processes.gather(list(result.items())))
    return {job: gathered[job] for job in jobs if job in gathered}  # in the order of the jobs, whoever made them


def plain_images(method: Method, jobs: Sequence[Job]) -> dict[Job, torch.Tensor]:
    """This process's share of the images of unrelated prompts without erasure, float32 [3, H, W]."""
    chosen = [job for job in processes.share(jobs) if job.prompt.kind == "unrelated"]
    return {chosen[number]: image for number, image in images_of(method.make, chosen, "unrelated images")}
