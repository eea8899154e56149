"""The agreement of a judge with the demo model's detector, which knows what an image shows."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from tqdm import tqdm

from lib_gie.demo.world.concepts import CONCEPTS
from lib_gie.demo.world.detector import look
from lib_gie.demo.world.fitting import shows
from lib_gie.demo.world.splits import UNRELATED
from lib_gie.training.image_maker import ImageMaker, Made
from lib_gie.training.judges import Judge, Verdict, make_judge
from lib_gie.training.judges.trial import auc

from .figures import Share, as_json, table
from .generate import Job
from .measures import jobs_of

NAMED = ("named", "style named")
KINDS = (*NAMED, "implied", "style implied", *UNRELATED)
"""The kinds of prompt whose images are judged: concepts are named, implied or neither, as in labelling."""

_BATCH = 24


@dataclass(frozen=True)
class Seen:
    """One image: its job, the image with its latents, and the objects and styles that the detector finds."""

    job: Job
    made: Made
    shown: frozenset[str]


def jobs_to_judge(split: str, seeds: int) -> list[Job]:
    """Return the split's prompts of KINDS with this many of the split's seeds."""
    return jobs_of(split, seeds, KINDS)


def make_images(maker: ImageMaker, jobs: Sequence[Job]) -> list[Seen]:
    """Make an image without erasure for every job."""
    seen = []
    for start in tqdm(range(0, len(jobs), _BATCH), desc="images"):
        part = jobs[start : start + _BATCH]
        texts, seeds = [job.prompt.text for job in part], [job.seed for job in part]
        made = maker.make(texts, seeds, CONCEPTS[0], torch.zeros(len(part)))
        for job, image, latents in zip(part, made.images, made.latents, strict=True):
            seen.append(Seen(job, Made(image[None], latents[None]), look(image).shown))
    return seen


def auc_of(scores: Sequence[float], shows: Sequence[bool]) -> float:
    """Return the chance that an image with the concept scores higher than one without. Raises ValueError as ``auc``."""
    having = [score for score, show in zip(scores, shows, strict=True) if show]
    lacking = [score for score, show in zip(scores, shows, strict=True) if not show]
    return auc(having, lacking)


@dataclass(frozen=True)
class Agreement:
    """One concept: the AUC, and the judge's share of right answers on images with and without it."""

    concept: str
    auc: float
    having: Share
    lacking: Share


def batches_of(seen: Sequence[Seen]) -> Iterator[tuple[Made, list[str]]]:
    """Yield the images in batches, each with its prompts."""
    for start in range(0, len(seen), _BATCH):
        part = seen[start : start + _BATCH]
        made = Made(torch.cat([s.made.images for s in part]), torch.cat([s.made.latents for s in part]))
        yield made, [s.job.prompt.text for s in part]


def _calibrate(judge: Judge, concept: str, seen: Sequence[Seen], verdicts: Sequence[Verdict]) -> None:
    """Calibrate as labelling does: by what the prompts say, not by what the images show."""
    pairs = [(s.job.prompt, v.score) for s, v in zip(seen, verdicts, strict=True)]
    naming = [score for prompt, score in pairs if prompt.concept == concept and prompt.kind in NAMED]
    # what is unrelated to one style may be in another
    absent = [score for prompt, score in pairs if prompt.kind in UNRELATED and not shows(prompt, concept)]
    judge.calibrate(naming, absent)


def agreement(maker: ImageMaker, name: str, seen: Sequence[Seen]) -> list[Agreement]:
    """Judge every concept on all of the images."""
    result = []
    for concept in tqdm(CONCEPTS, desc=f"judge {name}"):
        judge = make_judge(name, maker, concept)
        verdicts = [verdict for made, texts in batches_of(seen) for verdict in judge.look(made, texts)]
        _calibrate(judge, concept, seen, verdicts)
        having, lacking = Share(), Share()
        for image, verdict in zip(seen, verdicts, strict=True):
            told = judge.shows(verdict, verdict)
            (having if concept in image.shown else lacking).add(told == (concept in image.shown))
        scores, shown = [v.score for v in verdicts], [concept in s.shown for s in seen]
        result.append(Agreement(concept, auc_of(scores, shown), having, lacking))
    return result


def median_auc(found: Sequence[Agreement]) -> float:
    """Return the median over the concepts."""
    return statistics.median(entry.auc for entry in found)


def as_text(found: Sequence[Agreement]) -> str:
    """Return a table and the median."""
    rows = [(entry.concept, f"{entry.auc:.3f}", entry.having, entry.lacking) for entry in found]
    header = ("concept", "AUC", "right where it shows", "right where it does not")
    return f"{table(header, rows)}\n\nmedian AUC: {median_auc(found):.3f}"


def as_plain(found: Sequence[Agreement]) -> dict:
    """Return plain values for JSON."""
    concepts = {
        entry.concept: {
            "auc": round(entry.auc, 4),
            "right_where_it_shows": as_json(entry.having)[0],
            "right_where_it_does_not": as_json(entry.lacking)[0],
        }
        for entry in found
    }
    return {"median_auc": round(median_auc(found), 4), "concepts": concepts}
