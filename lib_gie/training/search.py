"""The weakest scale that suits an image, found with few images by a search over a grid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

GRID = (0.0, -0.5, -0.75, -1.0, -1.5, -2.0, -3.0, -4.0, -6.0, -8.0, -12.0, -16.0)
"""Scales that are tried, weakest first. About equal ratios: what a scale does depends on the checkpoint."""


@dataclass
class Search:
    """One image's search: which scale to try next, and the label in the end.

    It goes up the grid in steps that double, for most labels are weak, and bisects once a scale has erased. It takes it
    that a concept that a scale has erased stays erased at stronger ones.
    """

    grid: Sequence[float] = GRID
    shown: dict[int, bool] = field(default_factory=dict)

    @property
    def _bounds(self) -> tuple[int, int]:
        """Numbers of the strongest scale at which it still shows (-1: none) and of the weakest at which it does not."""
        gone = min((number for number, shows in self.shown.items() if not shows), default=len(self.grid))
        left = max((number for number, shows in self.shown.items() if shows and number < gone), default=-1)
        return left, gone

    def next_try(self) -> int | None:
        """The number of the scale to try next, None once the label is known. First whether it shows without erasure."""
        if 0 not in self.shown:
            return 0
        left, gone = self._bounds
        if gone - left <= 1:
            return None
        if gone == len(self.grid):
            return min(max(2, 2 * left), gone - 1)
        return (left + gone) // 2

    def tell(self, number: int, shows: bool) -> None:
        """Whether the concept shows at a scale."""
        self.shown[number] = shows

    @property
    def erased(self) -> bool:
        """Whether some scale of the grid erases it (or it never showed)."""
        return self._bounds[1] < len(self.grid)

    @property
    def label(self) -> float:
        """The weakest scale at which it does not show, the strongest of the grid where it always does."""
        return self.grid[min(self._bounds[1], len(self.grid) - 1)]


def most_tries(scales: int) -> int:
    """How many images a search makes at most on a grid of so many scales, 0 included."""
    most = 0
    for gone_from in range(scales + 1):
        search = Search(tuple(range(scales)))
        while (number := search.next_try()) is not None:
            search.tell(number, number < gone_from)
        most = max(most, len(search.shown))
    return most
