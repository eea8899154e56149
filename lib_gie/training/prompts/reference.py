"""Neutral prompts, to which a prompt is compared to tell how present a concept is in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lib_gie.assets import NEUTRAL_PROMPTS
from lib_gie.named import times_named

_USUAL = "usual"
_JOINTS = (" and ", " with ")

NAMING = 64
"""Prompts that name the concept, made from neutral ones."""


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


def naming_prompts(concept: str, neutral: Sequence[str]) -> list[Naming]:
    """Return the bare concept, and NAMING - 1 neutral prompts with the concept before or behind them.

    They are spread over the list. Those that name the concept anyway are left out.
    """
    usable = [number for number, text in enumerate(neutral) if not times_named(text, concept)]
    chosen = [usable[k * len(usable) // (NAMING - 1)] for k in range(min(NAMING - 1, len(usable)))]
    found = [Naming(concept, -1)]
    for place, number in enumerate(chosen):
        joint = _JOINTS[place % len(_JOINTS)]
        parts = (concept, neutral[number]) if place // len(_JOINTS) % 2 else (neutral[number], concept)
        found.append(Naming(joint.join(parts), number))
    return found
