"""Concept texts: ``knife``, ``knife, wine:0.5``, ``"van gogh, oil painting":1.2``."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from lib_gie.checks import quoted
from lib_gie.errors import ConceptError

MAX_TOKENS = 75
"""A concept's own tokens fill one CLIP context (77) without BOS and EOS."""

MAX_CHARACTERS, MAX_CONCEPTS = 4000, 64
"""The most that a concept text may have."""

_LINE_ENDS = "\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029"
# after the plain ones those of Chinese, Japanese and Arabic, and their small and half-width forms
_SEPARATORS = ",;" + "\uff0c\uff1b\u3001\uff64\u060c\u061b\ufe50\ufe51\ufe54" + _LINE_ENDS
_COLONS = ":\uff1a\ufe55"
_CURLY = "\u201c\u201d\u201f"  # which of them opens and which closes depends on the language
_CLOSERS = {
    '"': '"', "\uff02": "\uff02", "\u00ab": "\u00bb", "\u00bb": "\u00ab", "\u300c": "\u300d", "\u300e": "\u300f",
    **dict.fromkeys(_CURLY + "\u201e", _CURLY),
}  # fmt: skip
"""The marks that close a quote, by the one that opens it."""

_CLOSER = {opener: re.compile(f"[{closers}]") for opener, closers in _CLOSERS.items()}
_QUOTES = "".join({*_CLOSERS, *_CLOSERS.values()})
_MARK = re.compile(f"[{_SEPARATORS}{_QUOTES}]")
_SPECIAL = re.compile(f"[{_SEPARATORS}{_COLONS}{_QUOTES}]")
NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
"""A number as people write it in a concept text or an infotext; for `fullmatch`."""
"""A number as people write it in a concept text or an infotext; for ``fullmatch``."""


@dataclass(frozen=True)
class Concept:
    """A concept to erase: its text (white space folded) and a weight that multiplies its scale (finite, >= 0).

    ``literal``: its words are meant, also where a textual inversion has their name.
    """

    text: str
    weight: float = 1.0
    literal: bool = False

    def __post_init__(self) -> None:
        folded = " ".join(self.text.split())
        if not folded:
            raise ConceptError("a concept is empty; name what is to be erased, for example: knife")
        if isinstance(self.weight, bool) or not isinstance(self.weight, (int, float)):
            raise ConceptError(
                f"the weight of {quoted(folded)} is {quoted(self.weight)}; it must be a number from 0 up"
            )
        if not 0 <= self.weight < 1e300:  # NaN fails too, and an int that is no float
            raise ConceptError(
                f"the weight of {quoted(folded)} is {quoted(self.weight)}; it must be a finite number from 0 up"
            )
        if not folded.isascii() and re.search("[\ud800-\udfff]", folded):
            raise ConceptError(f"the concept {quoted(folded)} holds half of a character; type it anew")
        object.__setattr__(self, "text", folded)
        object.__setattr__(self, "weight", float(self.weight))

    @property
    def key(self) -> str:
        """The text without regard to case: two concepts that share it are the same one."""
        return self.text.casefold()


def _weight(text: str, of: str) -> float:
    stripped = text.strip()
    if not NUMBER.fullmatch(stripped):
        raise ConceptError(
            f"the weight of {quoted(of)} is {quoted(stripped)}; it must be a number from 0 up. "
            f'A concept that contains a colon or a comma goes in quotes: "a: b":1.2'
        )
    return float(stripped)


def _bad_quotes(text: str) -> ConceptError:
    return ConceptError(
        f"{quoted(text.strip())} has quotes that cannot be read; put them around a whole concept and close them, "
        f'for example: "van gogh, oil painting":1.2'
    )


def _in_quotes(text: str, start: int) -> tuple[str, int]:
    """Return what the quotes that open at ``start`` enclose, and the place behind them.

    A closing mark that is doubled stands for itself. Raises ConceptError where nothing closes them.
    """
    closer = _CLOSER.get(text[start])  # None: a mark that only closes
    parts, position = [], start + 1
    while found := closer and closer.search(text, position):
        parts.append(text[position : found.start()])
        position = found.end()
        if text[position : position + 1] != found[0]:
            return "".join(parts), position
        parts.append(found[0])
        position += 1
    raise _bad_quotes(text[start:])


def _items(text: str) -> list[str]:
    """Split at the separators that no quotes enclose. Time grows with the length of the text alone."""
    items, start, position = [], 0, 0
    while mark := _MARK.search(text, position):
        position = mark.end()
        if mark[0] in _QUOTES:
            position = _in_quotes(text, mark.start())[1]
        else:
            items.append(text[start : mark.start()])
            start = position
    return [*items, text[start:]]


def _concept(item: str) -> Concept | None:
    """Read the concept of one item; None where the item is empty."""
    item = item.strip()
    if not item:
        return None
    if item[0] in _QUOTES:
        return _quoted_concept(item)
    if any(mark in item for mark in _QUOTES):
        raise _bad_quotes(item)
    colon = max(item.rfind(mark) for mark in _COLONS)
    if colon < 0:
        return Concept(item)
    if not item[:colon].strip():
        raise ConceptError(
            f"{quoted(item)} has a weight and no concept; write the concept before the colon, for example: knife:0.5"
        )
    return Concept(item[:colon], _weight(item[colon + 1 :], item[:colon].strip()))


def _quoted_concept(item: str) -> Concept:
    text, end = _in_quotes(item, 0)
    rest = item[end:].strip()
    if rest and rest[0] not in _COLONS:
        raise _bad_quotes(item)
    if not text.strip():
        raise ConceptError('a quoted concept is empty (""); name what is to be erased, for example: knife')
    return Concept(text, _weight(rest[1:], text) if rest else 1.0)


def merge(concepts: Iterable[Concept]) -> tuple[Concept, ...]:
    """Keep each concept once, in order of first appearance; of two weights the larger one counts."""
    merged: dict[str, Concept] = {}
    for concept in concepts:
        first = merged.get(concept.key)
        if first is None or concept.weight > first.weight:
            merged[concept.key] = Concept(first.text if first else concept.text, concept.weight)
    return tuple(merged.values())


def parse_concepts(text: str) -> tuple[Concept, ...]:
    """Read a list of concepts with optional weights.

    Commas, semicolons (those of other scripts, too) and ends of lines separate concepts; a weight follows a colon.
    Quotes, typographic ones as well, keep all of them in a concept, a doubled quote stands for one. White space is
    folded, duplicates (compared without case) are merged, empty items are skipped.

    Raises ConceptError for a text without any concept or with more than 64, one of more than 4,000 characters, an
    unclosed quote, or a weight that is no number from 0 up.
    """
    if not isinstance(text, str):
        raise ConceptError(f"concepts must be a text, not {type(text).__name__}; for example: knife, wine:0.5")
    if len(text) > MAX_CHARACTERS:
        raise ConceptError(f"the concept text has {len(text):,} characters; at most {MAX_CHARACTERS:,} are read")
    concepts = merge(filter(None, map(_concept, _items(text))))
    if not concepts:
        found = f"text {quoted(text.strip())} names nothing" if text.strip() else "text is empty"
        raise ConceptError(f"the concept {found}; name what is to be erased, for example: knife, wine:0.5")
    if len(concepts) > MAX_CONCEPTS:
        raise ConceptError(f"the concept text names {len(concepts)} concepts; at most {MAX_CONCEPTS} can be erased")
    return concepts


def format_concepts(concepts: Iterable[Concept]) -> str:
    """Write the text that ``parse_concepts`` reads back as the same concepts."""
    items = []
    for concept in concepts:
        plain = not _SPECIAL.search(concept.text)
        text = concept.text if plain else '"' + concept.text.replace('"', '""') + '"'
        items.append(text if concept.weight == 1 else f"{text}:{concept.weight!r}")
    return ", ".join(items)
