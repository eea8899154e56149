"""The search over a grid of scales for the weakest one that erases, with few images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

GRID = (0.0, -0.5, -0.75, -1.0, -1.5, -2.0, -3.0, -4.0, -6.0, -8.0, -12.0, -16.0)
"""Scales that are tried, weakest first, in about equal ratios: how much a scale does depends on the checkpoint."""


@dataclass
class Search:
    """One image's search: which scale to try next, and the label in the end.

    Most labels are weak, so it goes up the grid in steps that double, and bisects once a scale has erased. It assumes
    that stronger scales erase, too. Where that is wrong, the label is a scale that erased, if not always the weakest.
    ``first``: the number of the first scale to try after 0.
    """

    grid: Sequence[float] = GRID
    first: int = 2
    shown: dict[int, bool] = field(default_factory=dict)

    @property
    def _bounds(self) -> tuple[int, int]:
        """Return the numbers of the strongest scale that still shows it (-1: none) and of the weakest that does not."""
        gone = min((number for number, shows in self.shown.items() if not shows), default=len(self.grid))
        left = max((number for number, shows in self.shown.items() if shows and number < gone), default=-1)
        return left, gone

    def next_try(self) -> int | None:
        """Return the number of the scale to try next, 0 (no erasure) first, None once the label is known."""
        if 0 not in self.shown:
            return 0
        left, gone = self._bounds
        if gone - left <= 1:
            return None
        if gone == len(self.grid):
            return min(max(self.first, 2 * left), gone - 1)
        return (left + gone) // 2

    def tell(self, number: int, shows: bool) -> None:
        """Take in whether the concept shows at a scale."""
        self.shown[number] = shows

    @property
    def erased(self) -> bool:
        """Tell whether some scale of the grid erases it (or it never showed)."""
        return self._bounds[1] < len(self.grid)

    @property
    def label(self) -> float:
        """Return the weakest scale at which it does not show, the strongest of the grid where it always does."""
        return self.grid[min(self._bounds[1], len(self.grid) - 1)]


def most_tries(scales: int, first: int = 2) -> int:
    """Return how many images a search makes at most on a grid of this many scales, 0 included."""
    most = 0
    for gone_from in range(scales + 1):
        search = Search(tuple(range(scales)), first)
        while (number := search.next_try()) is not None:
            search.tell(number, number < gone_from)
        most = max(most, len(search.shown))
    return most
