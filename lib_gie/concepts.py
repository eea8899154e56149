"""Concept texts: ``knife``, ``knife, wine:0.5``, ``"van gogh, oil painting":1.2``."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass

from .errors import ConceptError

MAX_TOKENS = 75
"""A concept's own tokens fill one CLIP context (77) without BOS and EOS."""

_ITEM = re.compile(
    r"""\s*(?:
        "(?P<quoted>(?:[^"]|"")*)"\s*(?::(?P<quoted_weight>[^,"]*))?   # "text":weight
        | (?P<plain>[^,"]*)                                            # text:weight
    )\s*(?P<end>,|$)""",
    re.VERBOSE,
)
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)


@dataclass(frozen=True)
class Concept:
    """A concept to erase: its text (white space folded) and a weight that multiplies its scale (finite, >= 0)."""

    text: str
    weight: float = 1.0

    def __post_init__(self):
        folded = " ".join(self.text.split())
        if not folded:
            raise ConceptError("a concept is empty; name what is to be erased, for example: knife")
        if isinstance(self.weight, bool) or not isinstance(self.weight, (int, float)):
            raise ConceptError(f"the weight of {folded!r} is {self.weight!r}; it must be a number from 0 up")
        if not math.isfinite(self.weight) or self.weight < 0:
            raise ConceptError(f"the weight of {folded!r} is {self.weight}; it must be a finite number from 0 up")
        object.__setattr__(self, "text", folded)
        object.__setattr__(self, "weight", float(self.weight))

    @property
    def key(self) -> str:
        """What two concepts share when they are the same one: the text without regard to case."""
        return self.text.casefold()


def _weight(text: str, of: str) -> float:
    stripped = text.strip()
    if not _NUMBER.fullmatch(stripped):
        raise ConceptError(
            f"the weight of {of!r} is {stripped!r}; it must be a number from 0 up. "
            f'A concept that contains a colon or a comma goes in quotes: "a: b":1.2'
        )
    return float(stripped)


def _concept(match: re.Match) -> Concept | None:
    if match["quoted"] is not None:
        text = match["quoted"].replace('""', '"')
        weight = match["quoted_weight"]
        if not text.strip():
            raise ConceptError('a quoted concept is empty (""); name what is to be erased, for example: knife')
        return Concept(text, 1.0 if weight is None else _weight(weight, text))
    text, colon, weight = match["plain"].rpartition(":")
    if not colon:
        return Concept(match["plain"]) if match["plain"].strip() else None
    if not text.strip():
        raise ConceptError(f"{match['plain'].strip()!r} has a weight but no concept before the colon")
    return Concept(text, _weight(weight, text.strip()))


def merge(concepts: Iterable[Concept]) -> tuple[Concept, ...]:
    """Each concept once, in order of first appearance; of two weights the larger one counts."""
    merged: dict[str, Concept] = {}
    for concept in concepts:
        first = merged.get(concept.key)
        if first is None or concept.weight > first.weight:
            merged[concept.key] = Concept(first.text if first else concept.text, concept.weight)
    return tuple(merged.values())


def parse_concepts(text: str) -> tuple[Concept, ...]:
    """Read a comma-separated list of concepts with optional weights.

    Quotes keep commas and colons in a concept, a doubled quote stands for one. White space is folded, duplicates
    (compared without case) are merged, empty items between commas are skipped.

    Raises ConceptError for a text without any concept, an unclosed quote or a weight that is no number from 0 up.
    """
    if not isinstance(text, str):
        raise ConceptError(f"concepts must be a text, not {type(text).__name__}; for example: knife, wine:0.5")
    concepts, position = [], 0
    while position < len(text):
        match = _ITEM.match(text, position)
        if match is None:
            raise ConceptError(
                f"cannot read {text[position:].strip()!r}: quotes go around a whole concept and are closed, "
                f'for example: "van gogh, oil painting":1.2'
            )
        concept = _concept(match)
        if concept is not None:
            concepts.append(concept)
        position = match.end()
    if not concepts:
        found = "the concept text is empty" if not text.strip() else f"the concept text {text.strip()!r} names nothing"
        raise ConceptError(f"{found}; name what is to be erased, for example: knife, wine:0.5")
    return merge(concepts)


def format_concepts(concepts: Iterable[Concept]) -> str:
    """The text that ``parse_concepts`` reads back as the same concepts."""
    items = []
    for concept in concepts:
        plain = not re.search(r'[",:]', concept.text)
        text = concept.text if plain else '"' + concept.text.replace('"', '""') + '"'
        items.append(text if concept.weight == 1 else f"{text}:{concept.weight!r}")
    return ", ".join(items)
