"""Neutral prompts, to which a prompt is compared to tell how present a concept is in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from lib_gie.assets import NEUTRAL_PROMPTS
from lib_gie.named import words_of

T = TypeVar("T")

_USUAL = "usual"
_JOINTS = (" and ", " with ")

NAMING = 64
"""Prompts that name the concept, made from neutral ones."""

MOST_IMPLIED = 64
"""Prompts that imply the concept which are read at most, so that a long list does not use up the evaluations."""

_LEAST_LETTERS = 3  # of a word whose longer forms are looked for


@dataclass(frozen=True)
class Naming:
    """A prompt that names the concept.

    ``of``: the number of the neutral one that it was made from; -1: it is the bare concept.
    """

    text: str
    of: int


def neutral_prompts(base: str) -> tuple[str, ...]:
    """Return the neutral prompts for a model family: its own list, if there is one, for it may know few words."""
    own = NEUTRAL_PROMPTS / f"{base}.txt"
    path = own if own.is_file() else NEUTRAL_PROMPTS / f"{_USUAL}.txt"
    return tuple(path.read_text(encoding="utf-8").split("\n")[:-1])


def may_name(text: str, concept: str) -> bool:
    """Tell whether a text names a concept, in any form whose words begin as the concept's own do (child: children).

    That finds too much rather than too little (car: carrot). A neutral prompt is soon done without; one with the
    concept in it makes prompts that imply it look neutral.
    """
    words, wanted = words_of(text), words_of(concept)
    runs = (words[k : k + len(wanted)] for k in range(len(words) - len(wanted) + 1))
    return bool(wanted) and any(all(map(_is_form, run, wanted)) for run in runs)


def _is_form(word: str, of: str) -> bool:
    return word.startswith(of) if len(of) >= _LEAST_LETTERS else word == of


def spread(values: Sequence[T], most: int) -> list[T]:
    """Return at most this many of the values, spread evenly over them."""
    count = min(most, len(values))
    return [values[k * len(values) // count] for k in range(count)]


def implied_prompts(given: Sequence[str]) -> list[str]:
    """Return at most MOST_IMPLIED of the given prompts, each once and none empty, spread over them."""
    return spread(list(dict.fromkeys(text.strip() for text in given if text.strip())), MOST_IMPLIED)


def naming_prompts(concept: str, neutral: Sequence[str]) -> list[Naming]:
    """Return the bare concept, and NAMING - 1 neutral prompts with the concept before or behind them.

    They are spread over the list. Those that name the concept anyway are left out.
    """
    usable = [number for number, text in enumerate(neutral) if not may_name(text, concept)]
    found = [Naming(concept, -1)]
    for place, number in enumerate(spread(usable, NAMING - 1)):
        joint = _JOINTS[place % len(_JOINTS)]
        parts = (concept, neutral[number]) if place // len(_JOINTS) % 2 else (neutral[number], concept)
        found.append(Naming(joint.join(parts), number))
    return found
