"""Numbers drawn from the concept's attention without keeping any map."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Sequence

import torch


def token_means(maps: torch.Tensor) -> torch.Tensor:
    """Means over heads and pixels, the adapter's inputs: [B, h, N, n] -> [B, n] (paper, section 3.3)."""
    return maps.mean((1, 2))


class AttentionRecorder:
    """Running sums of where a concept's attention is, per row and resolution.

    For each layer and step the maps [B, h, N, n] are averaged over heads and summed over the concept's tokens; what
    is kept is one sum per concept, row and number of pixels N.
    """

    def __init__(self):
        self._sums: dict[tuple[int, Hashable, int], torch.Tensor] = {}
        self._counts: dict[tuple[int, Hashable, int], int] = defaultdict(int)

    def add(self, concept: int, rows: Sequence[Hashable], maps: torch.Tensor) -> None:
        """Add one layer's maps, [B, h, N, n], of a concept (by number) and rows."""
        pixels = maps.mean(1).sum(-1)  # [B, N]
        for row, values in zip(rows, pixels, strict=True):
            key = (concept, row, values.shape[0])
            self._sums[key] = values.clone() if key not in self._sums else self._sums[key] + values
            self._counts[key] += 1

    def resolutions(self, concept: int, row: Hashable) -> list[int]:
        """The numbers of pixels that were recorded, largest first."""
        return sorted((n for number, name, n in self._sums if (number, name) == (concept, row)), reverse=True)

    def average(self, concept: int, row: Hashable, pixels: int) -> torch.Tensor:
        """The mean over layers and steps at one resolution: float32 [pixels], values from 0 to 1."""
        key = (concept, row, pixels)
        return self._sums[key] / self._counts[key]
