"""The prompts that adapters are fitted on: those of the train split, and more of its kinds and words."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from .concepts import CONCEPTS, STYLE_OF
from .drafts import OF_A_THING, Draft, different, harmless, of_a_style, of_things, phrases_of, write
from .scenes import IMPLICIT, pick
from .splits import KINDS, NAMES, UNRELATED, Prompt, load_split
from .styles import NAMED_STYLES, STYLES
from .things import NEIGHBOURS, OBJECTS, UNWANTED

_TRAIN = NAMES.index("train")
_SCENES = {
    phrase: objects
    for phrase, objects in IMPLICIT.items()
    if not any(phrase == phrases_of(concept)[-1] for concept in UNWANTED)
}
"""The scenes without those that are held out."""

MORE_OF_THINGS = (
    ("named", 240),
    ("implied", 30),
    ("synonym", 40),
    ("described", 30),
    ("styled", 60),
    ("long", 20),
    ("unrelated", 420),
)
"""Kinds and numbers of prompts that ``more_prompts`` draws for a thing, in order."""

MORE_OF_STYLES = (("style named", 200), ("style implied", 60), ("style unrelated", 300))
"""The same for a style."""


def shows(prompt: Prompt, concept: str) -> bool:
    """Return whether a prompt's image is to show a concept."""
    return concept in prompt.objects or STYLE_OF.get(concept) == prompt.style


def _unrelated_to(concept: str, index: int, rng: np.random.Generator) -> Draft:
    """Draft a scene without the concept: harmless, with its neighbour, with other things to erase, or in a style."""
    way = index % 5
    if way == 0:
        return harmless(index // 5, rng)
    if way == 1:
        near = NEIGHBOURS.get(concept, pick(rng, tuple(NEIGHBOURS.values())))
        objects = (near, *different(rng, OBJECTS, index // 5 % 2, (near, concept)))
        return of_things(objects)
    if way == 2:
        style = pick(rng, [style for style in NAMED_STYLES if style != STYLE_OF.get(concept)])
        return of_a_style(style, train_phrase(style, rng), index // 5, rng)
    if way == 3:
        phrase = pick(rng, [phrase for phrase, objects in _SCENES.items() if concept not in objects])
        return Draft(IMPLICIT[phrase], (phrase,))
    objects = different(rng, OBJECTS, 1 + index // 5 % 2, (concept,))
    return of_things(objects)


def train_phrase(style: str, rng: np.random.Generator) -> str:
    """Draw a phrase for a style from those that serve for training: its name, or the first that implies it."""
    return pick(rng, (STYLES[style].phrase, STYLES[style].implied[_TRAIN]))


def _drafts(concept: str, kind: str, rng: np.random.Generator) -> Callable[[int], Draft]:
    """Return what drafts the prompt of a number."""
    if kind in UNRELATED:
        return lambda index: _unrelated_to(concept, index, rng)
    if kind in OF_A_THING:
        return lambda index: OF_A_THING[kind](concept, index, _TRAIN, rng)
    style = STYLE_OF[concept]
    phrase = concept if kind == "style named" else STYLES[style].implied[_TRAIN]
    return lambda index: of_a_style(style, phrase, index, rng, OBJECTS)


def more_prompts(concept: str, counts: Sequence[tuple[str, int]] | None = None) -> list[Prompt]:
    """Return further prompts to fit a concept's adapter on. They are in none of the splits, and the same at every call.

    A draft whose text is taken is drawn again. Where a kind has fewer texts than ``counts`` asks for, all are returned.
    """
    rng = np.random.default_rng([len(NAMES), CONCEPTS.index(concept)])
    taken = {prompt.text for name in NAMES for prompt in load_split(name)[0]}
    prompts: list[Prompt] = []
    for kind, count in counts or (MORE_OF_STYLES if concept in STYLE_OF else MORE_OF_THINGS):
        draft, wanted = _drafts(concept, kind, rng), len(prompts) + count
        for index in range(20 * count):
            if len(prompts) == wanted:
                break
            drawn = draft(index)
            text, background = write(drawn, rng)
            if text not in taken:
                taken.add(text)
                prompts.append(Prompt(text, drawn.objects, background, drawn.style, concept, kind))
    return prompts


def fitting_prompts(concept: str) -> list[Prompt]:
    """Return the prompts that a concept's adapter is fitted on, from the train split and ``more_prompts``.

    They are the concept's own ones, and those of all concepts whose images lack it, as unrelated ones.
    """
    every = [
        *(p for p in load_split("train")[0] if p.kind in KINDS),
        *(prompt for name in CONCEPTS for prompt in more_prompts(name)),
    ]
    found: dict[str, Prompt] = {}
    for prompt in every:
        if not shows(prompt, concept):
            found.setdefault(prompt.text, replace(prompt, concept=concept, kind=UNRELATED[concept in STYLE_OF]))
        elif prompt.concept == concept:
            found.setdefault(prompt.text, prompt)
    return list(found.values())


def training_kind(prompt: Prompt) -> str:
    """Return a prompt's kind as lists of prompts for training name it: "explicit", "implicit" or "unrelated"."""
    if prompt.kind in UNRELATED:
        return "unrelated"
    return "implicit" if prompt.kind in ("implied", "style implied", "described", "synonym") else "explicit"
