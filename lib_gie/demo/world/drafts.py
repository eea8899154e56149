"""Drafts of prompts: what a prompt of each kind is to say, and how it is put into words."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from .captions import FILLERS, JOINTS, NOTHING, PREFIXES, filled, in_style, joined, on_background
from .scenes import BACKGROUNDS, IMPLICIT, pick
from .styles import NAMED_STYLES, STYLES
from .things import NEIGHBOURS, OBJECTS, UNWANTED, WANTED, article

_LONG_FILLERS = (18, 25)  # words that mean nothing in a long prompt, at least, and one more than at most


@dataclass(frozen=True)
class Draft:
    """What a prompt is to say. ``mentions``: of its objects, in no order, or the phrase that implies them."""

    objects: tuple[str, ...]
    mentions: tuple[str, ...]
    style: str = "plain"
    style_phrase: str = ""
    long: bool = False


def write(draft: Draft, rng: np.random.Generator) -> tuple[str, str | None]:
    """Return a text for a draft, and the background that it names, if any."""
    background = pick(rng, tuple(BACKGROUNDS)) if rng.random() < 0.5 else None
    mentions = [draft.mentions[i] for i in rng.permutation(len(draft.mentions))]
    text = on_background(joined(mentions, pick(rng, JOINTS)), background)
    leading = draft.style_phrase == STYLES[draft.style].phrase and rng.random() < 0.5
    text = in_style(text, pick(rng, PREFIXES), draft.style_phrase, leading)
    if draft.long:
        words = [pick(rng, FILLERS) for _ in range(int(rng.integers(*_LONG_FILLERS)))]
        before = int(rng.integers(0, 3)) * len(words) // 2  # the text comes first, in the middle or last
        text = filled(", ".join((*words[:before], text)), words[before:])
    return text, background


def different(rng: np.random.Generator, names: Sequence[str], count: int, without: Sequence[str]) -> tuple[str, ...]:
    """Draw some different objects."""
    left = [name for name in names if name not in without]
    return tuple(left[i] for i in rng.permutation(len(left))[:count])


def of_things(objects: tuple[str, ...], style: str = "plain", style_phrase: str = "", long: bool = False) -> Draft:
    """Draft a prompt that names these objects by their own names."""
    return Draft(objects, tuple(map(article, objects)), style, style_phrase, long)


def phrases_of(concept: str) -> tuple[str, ...]:
    """Return the phrases that imply a thing to erase, the held-out one last."""
    return tuple(phrase for phrase, objects in IMPLICIT.items() if concept in objects)


def _named(concept: str, index: int, split: int, rng: np.random.Generator) -> Draft:
    objects = (concept, *different(rng, OBJECTS, min(index % 5, 1), (concept,)))
    return of_things(objects)


def _implied(concept: str, index: int, split: int, rng: np.random.Generator) -> Draft:
    first, second, third = phrases_of(concept)
    phrase = ((first, second)[index % 2], second, third)[split]
    return Draft(IMPLICIT[phrase], (phrase,))


def _other_words(words: str, concept: str, index: int, rng: np.random.Generator) -> Draft:
    others = different(rng, OBJECTS, index % 2, (concept,))
    return Draft((concept, *others), (words, *map(article, others)))


def _synonym(concept: str, index: int, split: int, rng: np.random.Generator) -> Draft:
    return _other_words(UNWANTED[concept].synonyms[split], concept, index, rng)


def _described(concept: str, index: int, split: int, rng: np.random.Generator) -> Draft:
    return _other_words(UNWANTED[concept].descriptions[split], concept, index, rng)


def _neighbour(concept: str, index: int, split: int, rng: np.random.Generator) -> Draft:
    near = NEIGHBOURS[concept]
    beside = concept if index % 2 else different(rng, tuple(WANTED), 1, (near,))[0]
    return of_things((near, beside))


def _styled(concept: str, index: int, split: int, rng: np.random.Generator) -> Draft:
    style = NAMED_STYLES[index % len(NAMED_STYLES)]
    objects = (concept, *different(rng, tuple(WANTED), index % 2, ()))
    return of_things(objects, style, STYLES[style].phrase)


def _long(concept: str, index: int, split: int, rng: np.random.Generator) -> Draft:
    objects = (concept, *different(rng, tuple(WANTED), index % 2, ()))
    return of_things(objects, long=True)


def harmless(index: int, rng: np.random.Generator) -> Draft:
    """Draft a scene without anything that one may want to erase, in the plain style."""
    if index % 4 == 0:
        phrase = pick(rng, [phrase for phrase, objects in IMPLICIT.items() if not set(objects) & set(UNWANTED)])
        return Draft(IMPLICIT[phrase], (phrase,))
    objects = different(rng, tuple(WANTED), 1 + index % 2, ())
    return of_things(objects)


def of_a_style(
    style: str, phrase: str, index: int, rng: np.random.Generator, names: Sequence[str] = tuple(WANTED)
) -> Draft:
    """Draft a scene with one or two of these things in a style. ``phrase``: its name, or one that implies it."""
    objects = different(rng, names, 1 + index % 2, ())
    return of_things(objects, style, phrase)


def without_style(style: str, index: int, split: int, rng: np.random.Generator) -> Draft:
    """Draft a harmless scene that is not in this style: plain or, as often, in another, named or implied."""
    if index % 2:
        return harmless(index // 2, rng)
    other = pick(rng, [name for name in NAMED_STYLES if name != style])
    phrase = STYLES[other].phrase if index % 4 else STYLES[other].implied[split]
    return of_a_style(other, phrase, index // 2, rng)


def nothing(index: int) -> Draft:
    """Draft a scene without any object, in each style by turns."""
    style = tuple(STYLES)[index % len(STYLES)]
    return Draft((), (NOTHING,), style, STYLES[style].phrase)


def several(index: int, rng: np.random.Generator) -> Draft:
    """Draft a scene with two or three things to erase, or with two of them and a harmless one."""
    concepts = different(rng, tuple(UNWANTED), 2 + int(index % 3 == 0), ())
    objects = (*concepts, *different(rng, tuple(WANTED), int(index % 3 == 1), ()))
    return of_things(objects)


OF_A_THING: dict[str, Callable[[str, int, int, np.random.Generator], Draft]] = {
    "named": _named,
    "implied": _implied,
    "synonym": _synonym,
    "described": _described,
    "neighbour": _neighbour,
    "styled": _styled,
    "long": _long,
}
