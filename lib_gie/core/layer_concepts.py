"""The concepts in one layer: where it attends to them, and what it makes of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property

import torch

from .encoding import EncodedConcept
from .layers import AttentionLayer

_CHUNK, _LARGE_CHUNK = 2**19, 2**25
"""Scores that are worked on at once, on a processor and elsewhere: memory does not grow, and what a processor makes of
them stays in its cache. Elsewhere each piece costs kernels."""

_MOST = 80.0
"""exp of it, summed over a context, is still finite in float32."""


def span_of(encoded: EncodedConcept, padding: float) -> slice:
    """Return the positions of a concept that count: its own tokens, with ``padding`` also EOS and what follows."""
    return slice(1, len(encoded.states)) if padding else encoded.span


def owners_of(concepts: Sequence[EncodedConcept], padding: float) -> tuple[int, ...]:
    """Return for every column the number of its concept."""
    spans = [span_of(encoded, padding) for encoded in concepts]
    return tuple(number for number, span in enumerate(spans) for _ in range(span.start, span.stop))


def pieces(query: torch.Tensor, heads: int, positions: int) -> Iterator[slice]:
    """Return runs of pixels of ``query`` [B, N, h*d]. A run has no more scores for these positions than a chunk."""
    chunk = _CHUNK if query.device.type == "cpu" else _LARGE_CHUNK
    pixels = max(1, chunk // (query.shape[0] * heads * positions))
    return (slice(start, start + pixels) for start in range(0, query.shape[1], pixels))


class PlacedStates:
    """The states that K* and V* of concepts are made of, put on the device once for all layers."""

    def __init__(self) -> None:
        self._placed: dict[tuple[EncodedConcept, str, torch.device, torch.dtype], torch.Tensor] = {}

    def of(self, concept: EncodedConcept, kind: str, like: torch.Tensor) -> torch.Tensor:
        """Return a concept's "key_states" or "value_states" [L, D], with the device and dtype of ``like``."""
        key = concept, kind, like.device, like.dtype
        if key not in self._placed:
            own: torch.Tensor | None = getattr(concept, kind)
            self._placed[key] = (concept.states if own is None else own).to(like.device, like.dtype)
        return self._placed[key]

    def clear(self) -> None:
        """Forget all of them."""
        self._placed.clear()


class LayerConcepts:
    """Concepts in one layer, made once per generation: their keys K*, their attention maps M*, and values V*.

    A column is a position of a concept that counts: its own tokens, concept by concept. With ``padding`` those of a
    concept are followed by its EOS and padding.
    """

    def __init__(
        self,
        layer: AttentionLayer,
        concepts: Sequence[EncodedConcept],
        like: torch.Tensor,
        padding: float = 0.0,
        placed: PlacedStates | None = None,
    ):
        """Keep what they are made of.

        ``like``: the layer's context, whose device and dtype are what it expects. ``placed``: what layers have in
        common.
        """
        self.layer, self.concepts, self.heads, self.length = layer, concepts, layer.heads, len(concepts[0].states)
        self._like, self._placed = like.new_empty(0), placed or PlacedStates()
        self._spans = [span_of(encoded, padding) for encoded in concepts]
        self.owners = owners_of(concepts, padding)

    @cached_property
    def _indices(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The columns' places among all k*L tokens, and the numbers of their concepts: [columns] each."""
        device = self._like.device
        positions = [torch.arange(self.length, device=device)[span] for span in self._spans]
        owners = torch.cat([torch.full_like(part, number) for number, part in enumerate(positions)])  # [columns]
        return torch.cat(positions) + self.length * owners, owners

    def states(self, kind: str) -> torch.Tensor:
        """Return what K* ("key_states") or V* ("value_states") of all concepts is made of: [k, L, D]."""
        found = [self._placed.of(one, kind, self._like) for one in self.concepts]
        return torch.stack(found) if len(found) > 1 else found[0][None]

    # -- attention ------------------------------------------------

    @cached_property
    def _distances(self) -> torch.Tensor:
        """K* of k concepts, split by heads, less the key of the concept's first token (BOS): [k*L, h, d].

        A softmax does not change by what is added to all of its scores. Measured from BOS, which gets most of the
        attention, they need no search for their maximum, and half precision is finer.
        """
        with torch.no_grad():
            keys: torch.Tensor = self.layer.to_k(self.states("key_states"))  # [k, L, h*d]
            split: torch.Tensor = (keys - keys[:, :1]).flatten(0, 1).unflatten(-1, (self.heads, -1))  # [k*L, h, d]
            return split

    @cached_property
    def keys(self) -> torch.Tensor:
        """The same, transposed, divided by sqrt(d): [h, d, k*L]."""
        factor: float = self._distances.shape[-1] ** -0.5
        return self._distances.permute(1, 2, 0) * factor  # [h, d, k*L]

    def keys_of(self, numbers: Sequence[int]) -> torch.Tensor:
        """Return K* of these concepts, not yet divided by sqrt(d), as attention takes it: [numbers, h, L, d]."""
        by_concept: torch.Tensor = self._distances.unflatten(0, (-1, self.length))  # [k, L, h, d]
        split = by_concept.transpose(1, 2)  # [k, h, L, d], a view
        if list(numbers) == list(range(len(self.concepts))):
            return split
        return torch.stack([split[number] for number in numbers])  # [numbers, h, L, d]

    def pieces(self, query: torch.Tensor) -> Iterator[slice]:
        """Return runs of pixels that are worked on at once."""
        return pieces(query, self.heads, len(self.concepts) * self.length)

    def _attention(self, query: torch.Tensor, keys: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return exp of the scores, float32 [B, h, N, k*L], and their sums over each context, [B, h, N, k]."""
        rows, pixels, width = query.shape
        split = query.view(rows, pixels, self.heads, width // self.heads).transpose(1, 2)  # [B, h, N, d]
        grown = (split @ keys.to(query.dtype)).float().clamp_(max=_MOST).exp_()  # [B, h, N, k*L]
        return grown, grown.view(*grown.shape[:3], -1, self.length).sum(-1)

    def all_maps(self, query: torch.Tensor) -> torch.Tensor:
        """Return M* of all columns: [B, N, h*d] -> float32 [B, h, N, columns]. It makes all scores at once."""
        grown, sums = self._attention(query, self.keys)
        if len(self._spans) == 1:
            return grown[..., self._spans[0]] / sums
        columns, owners = self._indices
        return grown.index_select(-1, columns) / sums.index_select(-1, owners)

    def maps(self, query: torch.Tensor, number: int) -> torch.Tensor:
        """Return M*[..., C] of one concept, the attention to its columns among all of its context.

        ``query``: [B, N, h*d], as ``to_q`` returned it. Returns float32 [B, h, N, columns of the concept].
        """
        keys = self.keys[..., number * self.length : (number + 1) * self.length]  # [h, d, L]
        parts = []
        for pixels in self.pieces(query):
            grown, sums = self._attention(query[:, pixels], keys)
            parts.append(grown[..., self._spans[number]] / sums)  # [B, h, part of N, columns]
        return torch.cat(parts, 2)

    def own(self, maps: torch.Tensor, number: int) -> torch.Tensor:
        """Return the columns of a concept's own tokens: [B, h, N, columns of the concept] -> [B, h, N, n]."""
        return maps[..., : self.concepts[number].count]

    # -- values ------------------------------------------------

    def values(self) -> torch.Tensor:
        """Return V* of every column: [columns, h*d]."""
        states = self.states("value_states")  # [k, L, D]
        counted = [one[span] for one, span in zip(states, self._spans, strict=True)]  # [columns of one, D] each
        own = torch.cat(counted) if len(counted) > 1 else counted[0]  # [columns, D]
        values: torch.Tensor = self.layer.to_v(own[None])[0]
        return values

    def values_by_group(self, groups: Sequence[int | None], count: int) -> torch.Tensor:
        """Return V* of the groups' own columns, and zeros for all other tokens: [count, h, L, d].

        ``groups``: the group of each column, None for columns that are in none.
        """
        values: torch.Tensor = self.values().unflatten(-1, (self.heads, -1))  # [columns, h, d]
        found = values.new_zeros(count, self.heads, self.length, values.shape[-1])  # [count, h, L, d]
        positions = [position for span in self._spans for position in range(span.start, span.stop)]
        for value, position, group in zip(values, positions, groups, strict=True):
            if group is not None:
                found[group, :, position] = value
        return found

    def outputs(self, values: torch.Tensor) -> torch.Tensor:
        """Fold values and W_o into one matrix: [columns, h*d] -> [h*columns, C_out].

        Its row (head, column) is W_o applied to that head's part of the column's value.
        """
        split = values.unflatten(-1, (self.heads, -1))  # [columns, h, d]
        own_head = torch.eye(self.heads, device=values.device).to(values.dtype)  # [h, h]; torch 2.1 has no bf16 eye
        by_head = torch.einsum("nhd,gh->gnhd", split, own_head)  # [h, columns, h, d]
        return _out_without_bias(self.layer, by_head.flatten(2).flatten(0, 1))  # [h*columns, C_out]


def _out_without_bias(layer: AttentionLayer, values: torch.Tensor) -> torch.Tensor:
    """Return W_o of each row of ``values`` [rows, h*d], through the module, so that a LoRA counts: [rows, C_out]."""
    project = layer.out_projection
    padded = torch.cat([values, torch.zeros_like(values[:1])])[None]  # [1, rows + 1, h*d]
    projected: torch.Tensor = project(padded)[0]  # [rows + 1, C_out]
    return (projected[:-1] - projected[-1:]) / layer.output_factor  # [rows, C_out]


def add_product(output: torch.Tensor, weights: torch.Tensor, outputs: torch.Tensor) -> None:
    """Add to ``output`` [B, N, C_out], in place, what columns contribute.

    ``weights``: of each column, float32 [B, h, N, columns]; ``outputs``: [h*columns, C_out], see LayerConcepts.
    """
    left = weights.transpose(1, 2).flatten(2).to(outputs.dtype)  # [B, N, h*columns]
    if output.dtype == outputs.dtype and not left.requires_grad:
        output.baddbmm_(left, outputs.expand(left.shape[0], -1, -1))
    else:
        output += (left @ outputs).to(output.dtype)
