"""How erasure depends on what may vary: the number of concepts, the prompt's length, the concept's place, sampling."""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from lib_gie.demo.text import load_tokenizer
from lib_gie.demo.world.captions import FILLERS, filled
from lib_gie.demo.world.scenes import pick
from lib_gie.demo.world.things import UNWANTED

from .generate import USUAL, Job, Sampling
from .long_prompts import ROOM, own_tokens

COUNTS = (1, 2, 4, 8)
STEPS_TRIED = (10, 20, 50)
CFG_TRIED = (2.0, 4.0, 7.0, 10.0)
PLACES = ("first", "in the middle", "last")


@dataclass(frozen=True)
class Setting:
    """One value of a factor, and the jobs that it is measured on. ``label``: the value in words."""

    factor: str
    label: str
    jobs: tuple[Job, ...]
    sampling: Sampling = USUAL


def _others(concept: str, count: int) -> tuple[str, ...]:
    """Return this many of the other things to erase: those that follow a thing, in a circle."""
    things = list(UNWANTED)
    start = things.index(concept) + 1
    return tuple((things[start:] + things[:start])[:count])


def _numbers_of_concepts(jobs: Sequence[Job]) -> list[Setting]:
    return [
        Setting("concepts", str(count), tuple(replace(job, besides=_others(job.concept, count - 1)) for job in jobs))
        for count in COUNTS
    ]


def _steps(jobs: Sequence[Job]) -> list[Setting]:
    return [Setting("steps", str(steps), tuple(jobs), Sampling(steps=steps)) for steps in STEPS_TRIED]


def _guidance(jobs: Sequence[Job]) -> list[Setting]:
    return [Setting("cfg", f"{cfg:g}", tuple(jobs), Sampling(cfg=cfg)) for cfg in CFG_TRIED]


@functools.cache
def _tokenizer() -> Any:
    return load_tokenizer()


@functools.cache
def _tokens_of_filler(word: str) -> int:
    """Return how many tokens a word that means nothing adds to a prompt, its comma too."""
    return len(own_tokens(_tokenizer(), f", {word}"))


def fillers_for(text: str, room: int) -> list[str]:
    """Return words that mean nothing, as many as fit beside a text in so many tokens. A text always gets the same."""
    rng = np.random.default_rng(list(text.encode()))
    words: list[str] = []
    left = room - len(own_tokens(_tokenizer(), text))
    while fitting := [word for word in FILLERS if _tokens_of_filler(word) <= left]:
        words.append(pick(rng, fitting))
        left -= _tokens_of_filler(words[-1])
    return words


def lengthened(job: Job, room: int, place: int = 0) -> Job:
    """Return a job whose prompt has words that mean nothing, up to ``room`` tokens.

    ``place``: where the prompt's own words are among them, a number of PLACES.
    """
    text = job.prompt.text
    words = fillers_for(text, room)
    before = place * len(words) // 2
    longer = filled(", ".join((*words[:before], text)), words[before:])
    return replace(job, prompt=replace(job.prompt, text=longer))


def _named(jobs: Sequence[Job]) -> list[Job]:
    return [job for job in jobs if job.prompt.kind == "named"]


def _lengths(jobs: Sequence[Job]) -> list[Setting]:
    named = _named(jobs)
    longer = {"77 tokens": ROOM, "150 tokens": 2 * ROOM}
    return [
        Setting("length", "short", tuple(named)),
        *(Setting("length", label, tuple(lengthened(job, room) for job in named)) for label, room in longer.items()),
    ]


def _places(jobs: Sequence[Job]) -> list[Setting]:
    named = _named(jobs)
    return [
        Setting("position", label, tuple(lengthened(job, ROOM, place) for job in named))
        for place, label in enumerate(PLACES)
    ]


FACTORS: Mapping[str, Callable[[Sequence[Job]], list[Setting]]] = {
    "concepts": _numbers_of_concepts,
    "length": _lengths,
    "position": _places,
    "steps": _steps,
    "cfg": _guidance,
}
"""What may vary: each makes its settings of the jobs of the main kinds."""


def settings_of(factors: Collection[str], jobs: Sequence[Job]) -> list[Setting]:
    """Return the settings of these factors. ``jobs``: of the main kinds, each for one thing to erase."""
    return [setting for factor, make in FACTORS.items() if factor in factors for setting in make(jobs)]
