"""The mathematics of one layer: the concept's attention maps and the term that they add (DESIGN, part 2)."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from .attention import CrossAttentionLayer
from .encoding import EncodedConcept


def _out_without_bias(layer: CrossAttentionLayer, values: torch.Tensor) -> torch.Tensor:
    """W_o of each row of ``values`` [rows, h*d], through the module, so that LoRA and its kin count: [rows, C_out]."""
    project = layer.out_projection
    padded = torch.cat([values, torch.zeros_like(values[:1])])[None]  # [1, rows + 1, h*d]
    projected = project(padded)[0]  # [rows + 1, C_out]
    return (projected[:-1] - projected[-1:]) / layer.output_factor  # [rows, C_out]


class ConceptInLayer:
    """K* and U of one concept in one layer, made once per generation.

    ``keys``: [h, d, L], K* split by heads, transposed, divided by sqrt(d).
    ``outputs``: U, [h*n, C_out]: row (head, token) is W_o applied to that head's part of V*[token].
    With ``padding`` the columns are not n but L - 1: also EOS and what follows it.
    """

    def __init__(self, layer: CrossAttentionLayer, encoded: EncodedConcept, like: torch.Tensor, padding: float = 0.0):
        """``like``: the context that the layer is called with; its device and dtype are what the layer expects.

        ``padding``: the scale of EOS and padding, as a share of the mean of the concept's own.
        """
        self.count, self.padding = encoded.count, padding
        self.span = slice(1, len(encoded.states)) if padding else encoded.span
        self.heads = layer.heads
        with torch.no_grad():
            key_states, value_states = (
                (encoded.states if states is None else states).to(like.device, like.dtype)[None]  # [1, L, D]
                for states in (encoded.key_states, encoded.value_states)
            )
            keys = layer.module.to_k(key_states)[0]  # [L, h*d]
            values = layer.module.to_v(value_states)[0, self.span]  # [n, h*d]
            width = keys.shape[-1] // self.heads  # d
            self.keys = keys.unflatten(-1, (self.heads, width)).permute(1, 2, 0) * width**-0.5  # [h, d, L]
            self.outputs = _out_without_bias(layer, self._by_head(values))  # [h*n, C_out]

    def _by_head(self, values: torch.Tensor) -> torch.Tensor:
        """Each token's value once per head, zero outside that head's columns: [n, h*d] -> [h*n, h*d]."""
        split = values.unflatten(-1, (self.heads, -1))  # [n, h, d]
        own_head = torch.eye(self.heads, device=values.device).to(values.dtype)  # [h, h]; torch 2.1 has no bf16 eye
        return torch.einsum("nhd,gh->gnhd", split, own_head).flatten(2).flatten(0, 1)  # [h*n, h*d]

    def maps(self, query: torch.Tensor) -> torch.Tensor:
        """M*[..., C], the attention to the concept's tokens among all of its context: float32 [B, h, N, columns].

        ``query``: [B, N, h*d], as ``to_q`` returned it.
        """
        split = query.unflatten(-1, (self.heads, -1)).transpose(1, 2)  # [B, h, N, d]
        scores = (split @ self.keys.to(query.dtype)).float()  # [B, h, N, L]
        return (scores[..., self.span] - scores.logsumexp(-1, keepdim=True)).exp()  # [B, h, N, columns]

    def own(self, maps: torch.Tensor) -> torch.Tensor:
        """The columns of the concept's own tokens: [B, h, N, columns] -> [B, h, N, n]."""
        return maps[..., : self.count]

    def _columns(self, scale: torch.Tensor) -> torch.Tensor:
        """w for every column: [B, n] -> [B, columns]."""
        rest = self.span.stop - self.span.start - self.count
        return torch.cat([scale, self.padding * scale.mean(1, keepdim=True).expand(-1, rest)], 1) if rest else scale

    def term(self, maps: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
        """What the inhibitors add to the layer's output: W_o((w * M*[..., C]) V*[C]), [B, N, C_out].

        ``maps``: [B, h, N, columns]; ``scale``: w, [B, n].
        """
        inhibitors = maps * self._columns(scale)[:, None, None, :]  # I, [B, h, N, columns]
        columns = inhibitors.transpose(1, 2).flatten(2)  # [B, N, h*columns]
        return columns.to(self.outputs.dtype) @ self.outputs  # [B, N, C_out]


def build_layer(
    layer: CrossAttentionLayer, concepts: Sequence[EncodedConcept], like: torch.Tensor, padding: float = 0.0
) -> tuple[ConceptInLayer, ...]:
    """All concepts in one layer, in order."""
    return tuple(ConceptInLayer(layer, encoded, like, padding) for encoded in concepts)
