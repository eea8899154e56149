"""How well a judge agrees with the demo model's detector, which knows what an image shows."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from scipy.stats import mannwhitneyu
from tqdm import tqdm

from lib_gie.demo.detector import detect
from lib_gie.demo.glyphs import UNWANTED
from lib_gie.training.image_maker import Host, Made
from lib_gie.training.judges import Judge, Verdict, make_judge
from lib_gie.training.judges.self_judge import NOISES, PART, TIMESTEPS, SelfJudge, best_part

from .figures import Share, as_json, table
from .generate import Job

_BATCH = 24
CHOICES = tuple(range(100, 1000, 100))
"""Timesteps that are looked at when the judge's own are chosen."""


@dataclass(frozen=True)
class Seen:
    """An image: its job, from what the host made it, and the objects that the detector finds."""

    job: Job
    made: Made
    objects: frozenset[str]


def make_images(host: Host, jobs: Sequence[Job]) -> list[Seen]:
    """An image without erasure for every job."""
    seen = []
    for start in tqdm(range(0, len(jobs), _BATCH), desc="images"):
        part = jobs[start : start + _BATCH]
        texts, seeds = [job.prompt.text for job in part], [job.seed for job in part]
        made = host.make(texts, seeds, next(iter(UNWANTED)), torch.zeros(len(part)))
        for job, image, latents in zip(part, made.images, made.latents, strict=True):
            seen.append(Seen(job, Made(image[None], latents[None]), frozenset(detect(image))))
    return seen


def auc(scores: Sequence[float], shows: Sequence[bool]) -> float:
    """The chance that an image with the concept scores higher than one without."""
    having = [score for score, show in zip(scores, shows, strict=True) if show]
    lacking = [score for score, show in zip(scores, shows, strict=True) if not show]
    return float(mannwhitneyu(having, lacking).statistic) / (len(having) * len(lacking))


@dataclass(frozen=True)
class Agreement:
    """One concept: AUC, and of the images with and without it how many the judge is right about."""

    concept: str
    auc: float
    having: Share
    lacking: Share


def _batches(seen: Sequence[Seen]) -> Iterator[tuple[Made, list[str]]]:
    for start in range(0, len(seen), _BATCH):
        part = seen[start : start + _BATCH]
        made = Made(torch.cat([s.made.images for s in part]), torch.cat([s.made.latents for s in part]))
        yield made, [s.job.prompt.text for s in part]


def _calibrate(judge: Judge, concept: str, seen: Sequence[Seen], verdicts: Sequence[Verdict]) -> None:
    """As labelling does it: by what the prompts are, not by what the images show."""
    pairs = list(zip(seen, verdicts, strict=True))
    naming = [v.score for s, v in pairs if (s.job.prompt.concept, s.job.prompt.kind) == (concept, "explicit")]
    judge.calibrate(naming, [v.score for s, v in pairs if s.job.prompt.kind == "unrelated"])


def agreement(host: Host, name: str, seen: Sequence[Seen]) -> list[Agreement]:
    """Every concept, judged on all of the images."""
    result = []
    for concept in tqdm(UNWANTED, desc=f"judge {name}"):
        judge = make_judge(name, host, concept)
        verdicts = [verdict for made, texts in _batches(seen) for verdict in judge.look(made, texts)]
        _calibrate(judge, concept, seen, verdicts)
        having, lacking = Share(), Share()
        for image, verdict in zip(seen, verdicts, strict=True):
            shows = judge.shows(verdict, verdict)
            (having if concept in image.objects else lacking).add(shows == (concept in image.objects))
        scores, shown = [v.score for v in verdicts], [concept in s.objects for s in seen]
        result.append(Agreement(concept, auc(scores, shown), having, lacking))
    return result


def median_auc(found: Sequence[Agreement]) -> float:
    """Over the concepts."""
    return statistics.median(entry.auc for entry in found)


def as_text(found: Sequence[Agreement]) -> str:
    """A table and the median."""
    rows = [(entry.concept, f"{entry.auc:.3f}", entry.having, entry.lacking) for entry in found]
    header = ("concept", "AUC", "right where it shows", "right where it does not")
    return f"{table(header, rows)}\n\nmedian AUC: {median_auc(found):.3f}"


def as_plain(found: Sequence[Agreement]) -> dict:
    """For JSON."""
    concepts = {
        entry.concept: {
            "auc": round(entry.auc, 4),
            "right_where_it_shows": as_json(entry.having)[0],
            "right_where_it_does_not": as_json(entry.lacking)[0],
        }
        for entry in found
    }
    return {"median_auc": round(median_auc(found), 4), "concepts": concepts}


# -- what the judge "self" was chosen by ------------------------------------------------


def _ranges() -> Iterator[tuple[int, ...]]:
    """Each timestep alone, and the runs that a judge might take."""
    yield from ((timestep,) for timestep in CHOICES)
    yield from (CHOICES[:3], CHOICES[3:6], CHOICES[4:7], CHOICES[5:8], CHOICES[6:], TIMESTEPS, CHOICES[1:8], CHOICES)


def choices(host: Host, seen: Sequence[Seen]) -> str:
    """Median AUC of the judge "self" over the concepts, by timesteps and by the part of the image that counts."""
    shown = {concept: [concept in image.objects for image in seen] for concept in UNWANTED}
    errors = {}
    for concept in tqdm(UNWANTED, desc="noise errors"):
        judge = SelfJudge(host, concept, CHOICES)
        errors[concept] = torch.cat(
            [judge.errors(made.latents, texts) for made, texts in _batches(seen)], 1
        )  # [2, B, T, h, w]

    def median(chosen: Callable[[torch.Tensor], torch.Tensor], part: float) -> str:
        return f"{statistics.median(auc(best_part(chosen(e), part).tolist(), shown[c]) for c, e in errors.items()):.3f}"

    rows = []
    for timesteps in _ranges():
        numbers = [CHOICES.index(t) * NOISES + k for t in timesteps for k in range(NOISES)]
        values = [median(lambda e, numbers=numbers: e[:, :, numbers], part) for part in (1, 0.25, PART)]
        single = [median(lambda e, numbers=numbers: e[:, :, numbers[::NOISES]], PART)]
        rows.append((", ".join(map(str, timesteps)), *values, *single))
    header = ("timesteps", "whole image", "best quarter of the sides", "best half", "best half, one noise")
    return table(header, rows)
