"""Whether a text names a concept: its words, or its tokens as the text encoder sees them, are in it."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

_REPEATED = 0.125
_WORD = re.compile(r"[^\W_]+")


def words_of(text: str) -> list[str]:
    """Return the words of a text, case-folded, in the plain forms of their letters, without what cannot be seen."""
    plain = unicodedata.normalize("NFKC", text)
    seen = "".join(letter for letter in plain if unicodedata.category(letter) != "Cf")
    return _WORD.findall(seen.casefold())


def times_in(whole: Sequence[object], part: Sequence[object]) -> int:
    """Return how often ``part`` is a run of neighbours in ``whole``; an empty one never is."""
    count, there, wanted = len(part), list(whole), list(part)
    return sum(there[k : k + count] == wanted for k in range(len(there) - count + 1)) if count else 0


def times_named(text: str, concept: str) -> int:
    """Return how often the concept's words follow each other in a text, whatever stands between them."""
    return times_in(words_of(text), words_of(concept))


def repeated_emphasis(times: int) -> float:
    """Return the emphasis that naming a thing ``times`` times amounts to. 150 times take three times the scale."""
    return float(max(1, times) ** _REPEATED)
