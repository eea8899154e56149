"""Images of many prompts and seeds, made in batches. Image k does not depend on the batch that it is made in."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from tqdm import tqdm

from lib_gie.demo.sampling_settings import CFG, SIZE, STEPS
from lib_gie.demo.world.splits import Prompt
from lib_gie.hosts.diffusers.pipeline_call import call_pipeline

from .long_prompts import chunk_count, states_of

BATCH = 24

Make = Callable[[Sequence[str], Sequence[int], str], torch.Tensor]
"""Prompts, seeds and the concepts to leave out of all of them, as one text (see ``concepts_in``) -> images float32
[B, 3, H, W], 0 to 1."""

_COMMA = ", "


def concepts_in(text: str) -> tuple[str, ...]:
    """Return the concepts of a text that has commas between several, such as "knife, wine"."""
    return tuple(text.split(_COMMA))


@dataclass(frozen=True)
class Sampling:
    """How images are sampled. ``cfg``: the guidance scale."""

    steps: int = STEPS
    cfg: float = CFG

    def __str__(self) -> str:
        return f"{self.steps} steps, CFG {self.cfg:g}"


USUAL = Sampling()


@dataclass(frozen=True)
class Job:
    """One image to make: its prompt and seed. ``besides``: what is erased beside the prompt's own concepts."""

    prompt: Prompt
    seed: int
    besides: tuple[str, ...] = ()

    @property
    def own(self) -> tuple[str, ...]:
        """Return the prompt's own concepts."""
        return concepts_in(self.prompt.concept)

    @property
    def concepts(self) -> tuple[str, ...]:
        """Return all concepts that are erased from it."""
        return self.own + self.besides

    @property
    def concept(self) -> str:
        """Return the text of all concepts that are erased from it."""
        return _COMMA.join(self.concepts)


@torch.no_grad()
def generate(
    pipe: Any, prompts: Sequence[str] | None, seeds: Sequence[int], sampling: Sampling = USUAL, **options: Any
) -> torch.Tensor:
    """Make one image per prompt and seed: float32 [B, 3, H, W], 0 to 1.

    ``prompts``: None where embeddings are among the ``options``, which are those of the pipeline's call. Where one is
    longer than the text encoder's context, all are given as embeddings of several chunks.
    """
    chunks = 1 if prompts is None else chunk_count(pipe.tokenizer, prompts)
    if prompts is not None and chunks > 1:
        negative = options.pop("negative_prompt", [""] * len(prompts))
        options["prompt_embeds"] = states_of(pipe, prompts, chunks)  # [B, 77 * chunks, D]
        options["negative_prompt_embeds"] = states_of(pipe, negative, chunks)  # [B, 77 * chunks, D]
        prompts = None
    # "np" is what every pipeline knows; the deprecated ones do not know "pt"
    options["output_type"] = "np"
    images = call_pipeline(pipe, prompts, seeds, steps=sampling.steps, cfg=sampling.cfg, size=(SIZE, SIZE), **options)
    return torch.from_numpy(images).permute(0, 3, 1, 2).float()  # [B, 3, H, W]


def plain(pipe: Any, sampling: Sampling = USUAL) -> Make:
    """Return the way without erasure."""
    return lambda prompts, seeds, concept: generate(pipe, prompts, seeds, sampling)


def chunks_by_concept(jobs: Sequence[Job], size: int = BATCH) -> list[list[int]]:
    """Return the numbers of jobs that can be made together: at most ``size`` with the same concepts."""
    by_concept: dict[str, list[int]] = {}
    for index, job in enumerate(jobs):
        by_concept.setdefault(job.concept, []).append(index)
    return [group[i : i + size] for group in by_concept.values() for i in range(0, len(group), size)]


def images_of(make: Make, jobs: Sequence[Job], label: str) -> Iterator[tuple[int, torch.Tensor]]:
    """Yield the number and the image, float32 [3, H, W], of every job, concept by concept."""
    with tqdm(total=len(jobs), desc=label, mininterval=5) as bar:
        for chunk in chunks_by_concept(jobs):
            batch = [jobs[i] for i in chunk]
            texts, seeds = [job.prompt.text for job in batch], [job.seed for job in batch]
            yield from zip(chunk, make(texts, seeds, batch[0].concept), strict=True)
            bar.update(len(chunk))
