"""The authors' scheme, for comparing its cost: written from its description, not from their code.

Two trajectories start from the same noise. Every attention layer builds its maps explicitly. The second trajectory
takes the first one's cross-attention maps for 80 % of the steps and its small self-attention maps for 40 %. Every
cross-attention layer also attends to the concept, and its inhibitors join the second trajectory's maps. Maps of at most
32x32 pixels are kept and summed up over the steps. The extra step that reads the adapter's inputs before the first one
is left out: over the usual number of steps it costs little.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

CROSS, SELF = 0.8, 0.4
"""Shares of the steps in which the second trajectory takes the first one's maps."""

_SMALL = 16 * 16
_KEPT = 32 * 32


class AuthorsScheme:
    """The state that the attention layers of a UNet share. Rows: both trajectories unconditional, then conditional.

    ``concept``: the concept's states [L, D]. ``own``: the positions of its own tokens. ``scale``: w.
    """

    def __init__(self, unet: Any, concept: torch.Tensor, own: slice, scale: float):
        self.unet, self.concept, self.own, self.scale = unet, concept, own, scale
        self.progress = 0.0
        self.step: list[torch.Tensor] = []  # maps of this step, by layer
        self.sums: list[torch.Tensor] = []

    @contextmanager
    def attached(self) -> Iterator[None]:
        """Let the UNet attend by this scheme within the context."""
        before = self.unet.attn_processors
        self.unet.set_attn_processor({name: _Processor(self) for name in before})
        try:
            yield
        finally:
            self.unet.set_attn_processor(before)

    def end_step(self) -> None:
        """Add this step's maps to the sums."""
        self.sums = [a + b for a, b in zip(self.sums, self.step, strict=True)] if self.sums else self.step
        self.step = []

    def share(self, maps: torch.Tensor, cross: bool) -> torch.Tensor:
        """Put the first trajectory's maps in the second one's place, early enough: conditional rows, [2 B, h, N, L]."""
        if self.progress >= (CROSS if cross else SELF) or (not cross and maps.shape[2] > _SMALL):
            return maps
        first = maps[: len(maps) // 2]  # [B, h, N, L]
        return torch.cat([first, first])  # [2 B, h, N, L]


class _Processor:
    """One attention layer, as diffusers calls it."""

    def __init__(self, scheme: AuthorsScheme):
        self.scheme = scheme

    def __call__(self, attn: Any, hidden_states: torch.Tensor, encoder_hidden_states=None, **unused) -> torch.Tensor:
        scheme, cross = self.scheme, encoder_hidden_states is not None
        context = encoder_hidden_states if cross else hidden_states  # [R, L, D]
        query = self._heads(attn, attn.to_q(hidden_states))  # [R, h, N, d]
        maps = self._maps(attn, query, attn.to_k(context))  # [R, h, N, L]
        values = self._heads(attn, attn.to_v(context))  # [R, h, L, d]
        half = len(maps) // 2
        conditional = scheme.share(maps[half:], cross)  # [2 B, h, N, L]
        maps = torch.cat([maps[:half], conditional])  # [R, h, N, L]
        if maps.shape[2] <= _KEPT:
            scheme.step.append(conditional)
        if cross and scheme.progress < CROSS:
            maps, values = self._inject(attn, query, maps, values)
        out = (maps @ values).transpose(1, 2).flatten(2)  # [R, N, h*d]
        return attn.to_out[1](attn.to_out[0](out))

    @staticmethod
    def _heads(attn: Any, states: torch.Tensor) -> torch.Tensor:
        return states.unflatten(-1, (attn.heads, -1)).transpose(1, 2)  # [R, h, N, d]

    def _maps(self, attn: Any, query: torch.Tensor, keys: torch.Tensor) -> torch.Tensor:
        scores = query @ self._heads(attn, keys).transpose(2, 3) * attn.scale  # [R, h, N, L]
        return scores.softmax(-1)

    def _inject(self, attn: Any, query: torch.Tensor, maps: torch.Tensor, values: torch.Tensor):
        """Return maps and values with the concept's. Its columns are zero for all rows but the erased trajectory's."""
        scheme = self.scheme
        states = scheme.concept.expand(len(query), -1, -1)  # [R, L*, D]
        inhibitors = scheme.scale * self._maps(attn, query, attn.to_k(states))[..., scheme.own]  # [R, h, N, n]
        inhibitors[: len(query) * 3 // 4] = 0
        concept_values = self._heads(attn, attn.to_v(states))[:, :, scheme.own]  # [R, h, n, d]
        maps = torch.cat([maps, inhibitors], 3)  # [R, h, N, L + n]
        return maps, torch.cat([values, concept_values], 2)  # [R, h, L + n, d]
