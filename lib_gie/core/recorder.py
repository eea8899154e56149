"""Numbers drawn from the concept's attention without keeping any map."""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace

import torch

from .call import LAST_TIMESTEP


def token_means(maps: torch.Tensor) -> torch.Tensor:
    """Return the means over pixels, for every head: [B, h, N, n] -> [B, h, n]."""
    return maps.mean(2)


MOST_CELLS = 16
"""Side of the grid that predicted noise is averaged to: what tells a prompt's contents is no finer than that."""


@dataclass(frozen=True)
class Reading:
    """How attention, from which a scale is read, becomes numbers.

    ``per_head``: one input for every head of every layer; otherwise the means over heads, one per layer, as in the
    paper (section 3.3). ``noise``: the seed of noise that stands in for every image's latents, at the last timestep;
    None: the image's own at its first step, as in the paper. With the same noise for all, the inputs depend on the
    prompt alone: what differs between two images' noise hides what differs between their prompts. ``size``: height and
    width of that noise in latents, those that the scale was fitted at; None: the image's own. At another size the
    same prompt gives other means. ``timestep``: that at which the noise is shown to the UNet. ``predicted``: what the
    UNet predicts for that noise takes the place of the attention; it is the same for all concepts.
    """

    per_head: bool = False
    noise: int | None = None
    size: tuple[int, int] | None = None
    timestep: int = LAST_TIMESTEP
    predicted: bool = False

    @property
    def reads_prompt(self) -> bool:
        """Tell whether the inputs depend on the prompt alone, so that they can be read again when it changes."""
        return self.noise is not None

    @property
    def reads_alone(self) -> bool:
        """Tell whether it is of predicted noise at a size of its own: then nothing but the prompt has a say in it."""
        return self.predicted and self.noise is not None and self.size is not None

    @property
    def kind(self) -> Reading:
        """Return what all readings have in common that one run of the UNet serves."""
        return replace(self, per_head=False)

    @property
    def twin(self) -> Reading:
        """Return the reading of what is predicted in the run of the UNet that this one reads attention from."""
        return replace(self, per_head=False, predicted=True)

    def count(self, heads: Sequence[int]) -> int:
        """Return the number of inputs for a UNet. ``heads``: of each of its cross-attention layers."""
        return sum(heads) if self.per_head else len(heads)

    def inputs(self, by_layer: Sequence[torch.Tensor]) -> torch.Tensor:
        """Return the inputs: token means of every layer, float32 [rows, h, n] -> float32 [rows, inputs, n]."""
        if self.per_head:
            return torch.cat(list(by_layer), 1)  # [rows, inputs, n]
        return torch.stack([means.mean(1) for means in by_layer], 1)  # [rows, layers, n]


def count_cells(size: tuple[int, int], channels: int) -> int:
    """Return how many inputs ``cells`` gives for latents of this height and width."""
    height, width = (min(side, MOST_CELLS) for side in size)
    return channels * height * width


PAPER = Reading()
"""The paper's (section 3.3) and the authors' adapters'."""


LARGEST = 40 * 40
"""Attention of layers with more pixels is not recorded: 32x32 and 16x16 of a 512x512 image tell where a thing is."""


class AttentionRecorder:
    """Running sums of where a concept's attention is, per row, resolution and step.

    For each layer the maps [B, h, N, n] are averaged over heads and summed over the concept's tokens; what is kept is
    one sum per concept, row, number of pixels N and step (UNet evaluation). No map is.

    ``every``: N, where every N-th step is recorded. ``largest``: layers of more pixels are not recorded.
    """

    def __init__(self, every: int = 1, largest: int = LARGEST):
        self.every, self.largest = every, largest
        self._step = -1
        self._sums: dict[tuple[int, Hashable, int], dict[int, torch.Tensor]] = defaultdict(dict)
        self._counts: dict[tuple[int, Hashable, int], dict[int, int]] = defaultdict(dict)

    def begin_step(self) -> None:
        """Note that the UNet is about to be evaluated."""
        self._step += 1

    @property
    def is_due(self) -> bool:
        """Tell whether this step is recorded."""
        return self._step % self.every == 0

    def wants(self, pixels: int) -> bool:
        """Tell whether a layer with this number of pixels is recorded in this step."""
        return self.is_due and pixels <= self.largest

    def add(self, concept: int, rows: Sequence[Hashable], maps: torch.Tensor) -> None:
        """Add one layer's maps, [B, h, N, n], of a concept (by number) and rows."""
        pixels = maps.mean(1).sum(-1)  # [B, N]
        step = max(0, self._step)
        for row, values in zip(rows, pixels, strict=True):
            key = (concept, row, values.shape[0])
            before = self._sums[key].get(step)
            self._sums[key][step] = values.clone() if before is None else before + values
            self._counts[key][step] = self._counts[key].get(step, 0) + 1

    def rows(self) -> list[Hashable]:
        """Return the names of all rows."""
        return list(dict.fromkeys(row for _, row, _ in self._sums))

    def resolutions(self, concept: int, row: Hashable) -> list[int]:
        """Return the numbers of pixels that were recorded, largest first."""
        return sorted((n for number, name, n in self._sums if (number, name) == (concept, row)), reverse=True)

    def steps(self, concept: int, row: Hashable) -> list[int]:
        """Return the steps that were recorded."""
        return sorted({step for n in self.resolutions(concept, row) for step in self._sums[concept, row, n]})

    def average(self, concept: int, row: Hashable, pixels: int, step: int | None = None) -> torch.Tensor:
        """Return the mean over layers and steps (or of one) at one resolution: float32 [pixels], values from 0 to 1."""
        sums, counts = self._sums[concept, row, pixels], self._counts[concept, row, pixels]
        steps = sums if step is None else [step]
        return functools.reduce(torch.add, [sums[number] for number in steps]) / sum(counts[number] for number in steps)

    def strongest(self, concept: int, row: Hashable) -> float:
        """Return how strongly a concept was present, 0 to 1: the greatest of the averages at the finest resolution.

        0 where nothing was recorded.
        """
        finest = self.resolutions(concept, row)[:1]
        return max((float(self.average(concept, row, pixels).max()) for pixels in finest), default=0.0)
