"""Shares with their uncertainty, and tables of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

_Z95 = 1.959963984540054


def _percent(value: float, interval: Sequence[float], width: int = 1) -> str:
    """Return a share and its interval as text. ``width``: the least width of the number."""
    low, high = interval
    return f"{100 * value:{width}.1f} % [{100 * low:.0f}, {100 * high:.0f}]"


@dataclass
class Share:
    """Hits among a total. ``value`` is NaN where nothing was counted."""

    hits: int = 0
    total: int = 0

    def add(self, hit: bool) -> None:
        """Count one item."""
        self.hits += bool(hit)
        self.total += 1

    @property
    def value(self) -> float:
        """Return the share from 0 to 1."""
        return self.hits / self.total if self.total else math.nan

    @property
    def interval(self) -> tuple[float, float]:
        """Return the 95 % interval of Wilson (1927), which treats the counted items as independent."""
        if not self.total:
            return (math.nan, math.nan)
        n, p, z = self.total, self.value, _Z95
        centre = (p + z * z / (2 * n)) / (1 + z * z / n)
        half = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / (1 + z * z / n)
        return (max(0.0, centre - half), min(1.0, centre + half))

    def __str__(self) -> str:
        if not self.total:
            return "-"
        return f"{_percent(self.value, self.interval, 5)} of {self.total}"


@dataclass
class Mean:
    """The mean of numbers, with its 95 % interval by the normal approximation."""

    values: list[float] = field(default_factory=list)

    def add(self, value: float) -> None:
        """Count one item."""
        self.values.append(value)

    @property
    def total(self) -> int:
        """Return how many numbers there are."""
        return len(self.values)

    @property
    def value(self) -> float:
        """Return the mean, NaN where there are no numbers."""
        return math.fsum(self.values) / len(self.values) if self.values else math.nan

    @property
    def interval(self) -> tuple[float, float]:
        """Return the 95 % interval, NaN where there are no numbers. A single number's has no width."""
        if len(self.values) < 2:
            return (self.value, self.value)
        variance = math.fsum((value - self.value) ** 2 for value in self.values) / (len(self.values) - 1)
        half = _Z95 * math.sqrt(variance / len(self.values))
        return (self.value - half, self.value + half)

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.interval[0]:.2f}, {self.interval[1]:.2f}]" if self.values else "-"


def as_json(share: Share | Mean) -> tuple[float | None, list[float] | None]:
    """Return value and interval, rounded, None where nothing was counted."""
    if not share.total:
        return None, None
    return round(share.value, 4), [round(bound, 4) for bound in share.interval]


def shown(row: Mapping[str, Any], name: str) -> str:
    """Return a share out of a JSON row as people read it."""
    return "-" if row[name] is None else _percent(row[name], row[f"{name}_ci"])


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return a Markdown table with columns padded to equal width."""
    cells = [[str(cell) for cell in row] for row in (header, *rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(header))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in cells
    ]
    lines.insert(1, "| " + " | ".join("-" * width for width in widths) + " |")
    return "\n".join(lines)
