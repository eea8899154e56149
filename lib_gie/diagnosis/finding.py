"""One thing that was looked at, and how it was found."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Mark = Literal["ok", "note", "problem"]
"""``note``: it works, but somebody may want to know or change it. ``problem``: something cannot be done."""

_WIDTH = len("problem")


@dataclass(frozen=True)
class Finding:
    """``subject``: what was looked at; ``found``: how it is; ``todo``: what to do about it, empty where nothing is."""

    mark: Mark
    subject: str
    found: str
    todo: str = ""

    def __str__(self) -> str:
        """Return one line, first the mark."""
        text = f"{self.mark:<{_WIDTH}}  {self.subject}: {self.found}{f'; {self.todo}' if self.todo else ''}"
        return " ".join(text.splitlines())


def problems(findings: Iterable[Finding]) -> int:
    """Return how many of them are problems."""
    return sum(finding.mark == "problem" for finding in findings)


def listing(names: Iterable[str], most: int = 4) -> str:
    """Return some names in one line, at most ``most`` of them."""
    found = sorted(names)
    more = f" and {len(found) - most} more" if len(found) > most else ""
    return f"{', '.join(found[:most])}{more}"
