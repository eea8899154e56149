"""Numbers drawn from the concept's attention without keeping any map."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import torch


def token_means(maps: torch.Tensor) -> torch.Tensor:
    """Means over pixels, for every head: [B, h, N, n] -> [B, h, n]."""
    return maps.mean(2)


@dataclass(frozen=True)
class Reading:
    """What of the attention at t = T a scale is read from.

    ``per_head``: one input for every head of every layer; otherwise the means over heads, one per layer, as in the
    paper (section 3.3). ``noise``: the seed of noise that stands in for every image's latents, at the last timestep;
    None: the image's own at its first step, as in the paper. With the same noise for all, the inputs depend on the
    prompt alone: what differs between two images' noise hides what differs between their prompts.
    """

    per_head: bool = False
    noise: int | None = None

    @property
    def reads_prompt(self) -> bool:
        """Whether the inputs depend on the prompt alone, so that they can be read again when it changes."""
        return self.noise is not None

    def count(self, heads: Sequence[int]) -> int:
        """The number of inputs for a UNet with so many heads in each of its cross-attention layers."""
        return sum(heads) if self.per_head else len(heads)

    def inputs(self, by_layer: Sequence[torch.Tensor]) -> torch.Tensor:
        """Token means of every layer, float32 [rows, h, n] each -> float32 [rows, inputs, n]."""
        if self.per_head:
            return torch.cat(list(by_layer), 1)  # [rows, inputs, n]
        return torch.stack([means.mean(1) for means in by_layer], 1)  # [rows, layers, n]


PAPER = Reading()
"""The paper's (section 3.3) and the authors' adapters'."""


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
