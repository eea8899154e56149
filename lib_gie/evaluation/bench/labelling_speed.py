"""The pace of labelling, with and without batches and the search over scales."""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from tqdm import trange

from lib_gie.demo.sampling_settings import STEPS
from lib_gie.demo.world.splits import load_split
from lib_gie.hosts.diffusers.image_maker import demo_or_sd_maker
from lib_gie.training.image_maker import ImageMaker
from lib_gie.training.judges import Judge, make_judge, usual_judge
from lib_gie.training.labels import Labelling, Sample
from lib_gie.training.search import GRID

CONCEPT = "knife"
BATCH = 24
_WAYS = ((BATCH, True), (BATCH, False), (1, True), (1, False))


@dataclass(frozen=True)
class Pace:
    """One way of labelling and its pace. ``batch``: images made at once. ``search``: False tries every scale."""

    batch: int
    search: bool
    labels: int
    images: int
    seconds: float

    @property
    def per_minute(self) -> float:
        """Return labels per minute."""
        return 60 * self.labels / self.seconds


def _samples(count: int) -> list[Sample]:
    prompts, seeds = load_split("train")
    named = [prompt for prompt in prompts if (prompt.concept, prompt.kind) == (CONCEPT, "named")]
    return [Sample(prompt.text, seed) for seed in seeds for prompt in named][:count]


def _search(maker: ImageMaker, judge: Judge, samples: list[Sample], batch: int) -> int:
    """Label as ``train`` does. Return the number of images."""
    made = 0

    def count(images, of, verdicts) -> None:
        nonlocal made
        made += len(of)

    with tempfile.TemporaryDirectory() as folder:
        Labelling(maker, judge, CONCEPT, samples, Path(folder), batch=batch).run(on_batch=count)
    return made


def _whole_grid(maker: ImageMaker, judge: Judge, samples: list[Sample], batch: int) -> int:
    """Make and judge every scale of every sample. Return the number of images."""
    pairs = [(sample, scale) for sample in samples for scale in GRID]
    for start in trange(0, len(pairs), batch, desc="whole grid", mininterval=5):
        part, scales = zip(*pairs[start : start + batch], strict=True)
        prompts, seeds = [sample.prompt for sample in part], [sample.seed for sample in part]
        judge.look(maker.make(prompts, seeds, CONCEPT, torch.tensor(scales)), prompts)
    return len(pairs)


def labelling_paces(count: int) -> list[Pace]:
    """Label this many samples of the demo model in each way."""
    maker, samples = demo_or_sd_maker(None, steps=STEPS), _samples(count)
    judge, paces = make_judge(usual_judge(maker.base), maker, CONCEPT), []
    for batch, search in _WAYS:
        started = time.perf_counter()
        images = (_search if search else _whole_grid)(maker, judge, samples, batch)
        paces.append(Pace(batch, search, len(samples), images, time.perf_counter() - started))
    return paces
