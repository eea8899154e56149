"""The mathematics of one layer: the concepts' attention maps and the term that they add."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from lib_gie.core.encoding import EncodedConcept
from lib_gie.core.layers import AttentionLayer

_CHUNK = 2**19
"""Scores that are worked on at once: what is made of them stays in the processor's cache, and memory does not grow."""

_MOST = 80.0
"""exp of it, summed over a context, is still finite in float32."""


def _out_without_bias(layer: AttentionLayer, values: torch.Tensor) -> torch.Tensor:
    """W_o of each row of ``values`` [rows, h*d], through the module, so that LoRA and its kin count: [rows, C_out]."""
    project = layer.out_projection
    padded = torch.cat([values, torch.zeros_like(values[:1])])[None]  # [1, rows + 1, h*d]
    projected: torch.Tensor = project(padded)[0]  # [rows + 1, C_out]
    return (projected[:-1] - projected[-1:]) / layer.output_factor  # [rows, C_out]


def span_of(encoded: EncodedConcept, padding: float) -> slice:
    """The positions of a concept that are inhibited: its own tokens, with ``padding`` also EOS and what follows."""
    return slice(1, len(encoded.states)) if padding else encoded.span


def column_scales(
    scales: Sequence[torch.Tensor], concepts: Sequence[EncodedConcept], padding: float = 0.0
) -> torch.Tensor:
    """w for every column of all concepts: [B, n] each -> float32 [B, columns].

    ``padding``: the scale of EOS and padding, as a share of the mean of the concept's own.
    """
    parts = []
    for scale, encoded in zip(scales, concepts, strict=True):
        span = span_of(encoded, padding)
        rest = span.stop - span.start - encoded.count
        parts += [scale, padding * scale.mean(1, keepdim=True).expand(-1, rest)] if rest else [scale]
    return torch.cat(parts, 1)


class LayerConcepts:
    """K* and U of all concepts in one layer, made once per generation.

    A column is a position of a concept that is inhibited: its own tokens, concept by concept. With ``padding`` those of
    a concept are followed by its EOS and padding.

    ``keys``: [h, d, k*L], K* of k concepts, split by heads, transposed, divided by sqrt(d), less the key of the
    concept's first token (BOS): a softmax does not change by what is added to all of its scores, and measured from
    BOS, which gets most of the attention, they need no search for their maximum.
    ``outputs``: U, [h*columns, C_out]: row (head, column) is W_o applied to that head's part of V*[column].
    """

    def __init__(
        self, layer: AttentionLayer, concepts: Sequence[EncodedConcept], like: torch.Tensor, padding: float = 0.0
    ):
        """``like``: the context that the layer is called with; its device and dtype are what the layer expects."""
        self.heads, self.length = layer.heads, len(concepts[0].states)
        self._counts = [encoded.count for encoded in concepts]
        self._spans = [span_of(encoded, padding) for encoded in concepts]
        positions = [torch.arange(self.length, device=like.device)[span] for span in self._spans]
        self._owners = torch.cat([torch.full_like(p, k) for k, p in enumerate(positions)])  # [columns]
        self._columns = torch.cat(positions) + self.length * self._owners  # [columns], of the k*L
        with torch.no_grad():
            self.keys = self._fold_keys(layer, _states(concepts, "key_states", like))  # [h, d, k*L]
            values = _states(concepts, "value_states", like)  # [k, L, D]
            inhibited = torch.cat(
                [states[span] for states, span in zip(values, self._spans, strict=True)]
            )  # [columns, D]
            self.outputs = self._fold_outputs(layer, layer.to_v(inhibited[None])[0])  # [h*columns, C_out]

    def _fold_keys(self, layer: AttentionLayer, states: torch.Tensor) -> torch.Tensor:
        keys: torch.Tensor = layer.to_k(states)  # [k, L, h*d]
        split: torch.Tensor = (keys - keys[:, :1]).flatten(0, 1).unflatten(-1, (self.heads, -1))  # [k*L, h, d]
        factor: float = split.shape[-1] ** -0.5
        return split.permute(1, 2, 0) * factor  # [h, d, k*L]

    def _fold_outputs(self, layer: AttentionLayer, values: torch.Tensor) -> torch.Tensor:
        """Each column's value once per head, zero outside that head's part, through W_o: [columns, h*d] -> U."""
        split = values.unflatten(-1, (self.heads, -1))  # [columns, h, d]
        own_head = torch.eye(self.heads, device=values.device).to(values.dtype)  # [h, h]; torch 2.1 has no bf16 eye
        by_head = torch.einsum("nhd,gh->gnhd", split, own_head)  # [h, columns, h, d]
        return _out_without_bias(layer, by_head.flatten(2).flatten(0, 1))  # [h*columns, C_out]

    def _chunks(self, query: torch.Tensor) -> Iterator[slice]:
        """Runs of pixels whose scores are not more than _CHUNK."""
        pixels = max(1, _CHUNK // (len(query) * self.heads * self.keys.shape[-1]))
        return (slice(start, start + pixels) for start in range(0, query.shape[1], pixels))

    def _attention(self, query: torch.Tensor, keys: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """exp of the scores, float32 [B, h, N, k*L], and their sums over each concept's context, [B, h, N, k]."""
        split = query.unflatten(-1, (self.heads, -1)).transpose(1, 2)  # [B, h, N, d]
        grown = (split @ keys.to(query.dtype)).float().clamp_(max=_MOST).exp_()  # [B, h, N, k*L]
        return grown, grown.unflatten(-1, (-1, self.length)).sum(-1)

    def _weights(self, query: torch.Tensor) -> torch.Tensor:
        """M* of all columns: float32 [B, h, N, columns]."""
        grown, sums = self._attention(query, self.keys)
        if len(self._spans) == 1:
            return grown[..., self._spans[0]] / sums
        return grown.index_select(-1, self._columns) / sums.index_select(-1, self._owners)

    def maps(self, query: torch.Tensor, number: int) -> torch.Tensor:
        """M*[..., C] of one concept, the attention to its columns among all of its context.

        ``query``: [B, N, h*d], as ``to_q`` returned it. Returns float32 [B, h, N, columns of the concept].
        """
        keys = self.keys[..., number * self.length : (number + 1) * self.length]  # [h, d, L]
        parts = []
        for pixels in self._chunks(query):
            grown, sums = self._attention(query[:, pixels], keys)
            parts.append(grown[..., self._spans[number]] / sums)  # [B, h, part of N, columns]
        return torch.cat(parts, 2)

    def own(self, maps: torch.Tensor, number: int) -> torch.Tensor:
        """The columns of a concept's own tokens: [B, h, N, columns of the concept] -> [B, h, N, n]."""
        return maps[..., : self._counts[number]]

    def _term(self, weights: torch.Tensor, scales: torch.Tensor) -> torch.Tensor:
        """I as the left factor of U: [B, h, N, columns], w [B, columns] -> [B, N, h*columns]."""
        inhibitors = weights * scales[:, None, None]  # I, [B, h, N, columns]
        return inhibitors.transpose(1, 2).flatten(2).to(self.outputs.dtype)

    def add(self, output: torch.Tensor, query: torch.Tensor, scales: torch.Tensor) -> None:
        """Add W_o((w * M*[..., C]) V*[C]) of all concepts to ``output`` [B, N, C_out], in place.

        ``query``: [B, N, h*d]; ``scales``: w of all columns, float32 [B, columns] (see ``column_scales``).
        """
        for pixels in self._chunks(query):
            self._add(output[:, pixels], self._weights(query[:, pixels]), scales)

    def add_maps(self, output: torch.Tensor, maps: Sequence[torch.Tensor], scales: torch.Tensor) -> None:
        """The same with maps that are there, concept by concept float32 [B, h, N, columns of the concept]."""
        self._add(output, torch.cat(list(maps), -1), scales)

    def _add(self, output: torch.Tensor, weights: torch.Tensor, scales: torch.Tensor) -> None:
        left = self._term(weights, scales)  # [B, N, h*columns]
        if output.dtype == self.outputs.dtype and not left.requires_grad:
            output.baddbmm_(left, self.outputs.expand(len(left), -1, -1))
        else:
            output += (left @ self.outputs).to(output.dtype)


def _states(concepts: Sequence[EncodedConcept], kind: str, like: torch.Tensor) -> torch.Tensor:
    """What K* or V* is made of, for all concepts: [k, L, D]."""
    found = [encoded.states if getattr(encoded, kind) is None else getattr(encoded, kind) for encoded in concepts]
    return torch.stack(found).to(like.device, like.dtype)
