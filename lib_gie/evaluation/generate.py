"""Makes images of many prompts and seeds in batches; image k does not depend on the batch it is made in."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from tqdm import tqdm

from ..demo.settings import CFG, SIZE, STEPS
from ..demo.splits import Prompt
from ..pipeline import GrowthInhibitors

BATCH = 24


@dataclass(frozen=True)
class Job:
    """One image to make: of a prompt, from a seed."""

    prompt: Prompt
    seed: int


@torch.no_grad()
def generate(pipe: Any, prompts: Sequence[str] | None, seeds: Sequence[int], **options) -> torch.Tensor:
    """One image per prompt and seed: float32 [B, 3, H, W], 0 to 1."""
    call = {"num_inference_steps": STEPS, "guidance_scale": CFG, "width": SIZE, "height": SIZE, **options}
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    texts = None if prompts is None else list(prompts)  # None: embeddings are among the options
    images = pipe(texts, generator=generators, output_type="pt", **call).images  # [B, 3, H, W]
    return images.float().cpu()


def chunks_by_concept(jobs: Sequence[Job], size: int = BATCH) -> list[list[int]]:
    """Numbers of jobs that can be made together: at most ``size`` with the same concept."""
    by_concept: dict[str, list[int]] = {}
    for index, job in enumerate(jobs):
        by_concept.setdefault(job.prompt.concept, []).append(index)
    return [group[i : i + size] for group in by_concept.values() for i in range(0, len(group), size)]


def images_of(pipe: Any, jobs: Sequence[Job], label: str, erase: dict | None = None, **options) -> list[torch.Tensor]:
    """The images of all jobs; with ``erase`` (GrowthInhibitors' options) each prompt's concept is erased."""
    images: list[torch.Tensor | None] = [None] * len(jobs)
    with tqdm(total=len(jobs), desc=label, mininterval=5) as bar:
        for chunk in chunks_by_concept(jobs):
            concept = jobs[chunk[0]].prompt.concept
            context = nullcontext() if erase is None else GrowthInhibitors(pipe, concept, **erase)
            with context:
                made = generate(pipe, [jobs[i].prompt.text for i in chunk], [jobs[i].seed for i in chunk], **options)
            for index, image in zip(chunk, made, strict=True):
                images[index] = image  # [3, H, W]
            bar.update(len(chunk))
    return images
