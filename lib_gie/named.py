"""Whether a text names a concept: its words, or its tokens as the text encoder sees them, are in it."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

_WORD = re.compile(r"[^\W_]+")


def words_of(text: str) -> list[str]:
    """The words of a text, case-folded, in the plain forms of their letters; nothing that cannot be seen counts."""
    plain = unicodedata.normalize("NFKC", text)
    seen = "".join(letter for letter in plain if unicodedata.category(letter) != "Cf")
    return _WORD.findall(seen.casefold())


def contains(whole: Sequence, part: Sequence) -> bool:
    """Whether ``part`` is a run of neighbours in ``whole``; an empty one never is."""
    count = len(part)
    return bool(count) and any(list(whole[k : k + count]) == list(part) for k in range(len(whole) - count + 1))


def names_words(text: str, concept: str) -> bool:
    """Whether the concept's words follow each other in a text, whatever stands between them."""
    return contains(words_of(text), words_of(concept))
