"""What is made of concepts and a UNet's weights, once for all steps."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from lib_gie.errors import ErasureError

from .call import Rows, select
from .columns import ColumnScales
from .encoding import EncodedConcept
from .layer_concepts import LayerConcepts, PlacedStates, owners_of
from .layers import AttentionLayer
from .rules.protocol import ErasingRule, LayerTerm

Encoded = tuple[EncodedConcept, ...]

Scales = tuple[torch.Tensor, ...]
"""w of each concept, float32 [rows, n], on the CPU. As long as w stays the same, it is the same tensors."""

Spread = tuple[tuple[int, ...], int]
"""The numbers of the rows that w is of, and the number of rows in the batch: w of the others is 0."""

_MOST_SCALES = 64
"""Prompts that change with the steps bring new scales again and again."""


class Folds:
    """The concepts in each layer of a UNet, and the terms of the rules that erase them.

    ``index`` is a layer's number, ``padding`` as of ErasureSettings, ``like`` the context [B, L, D] that the layer is
    given.
    """

    def __init__(self, layers: Sequence[AttentionLayer]):
        self._layers = layers
        self._concepts: dict[tuple[int, Encoded, float], LayerConcepts] = {}
        self._terms: dict[tuple[ErasingRule, int, Encoded, float], LayerTerm] = {}
        self._placed = PlacedStates()
        self._rows: dict[tuple[tuple[int, ...], torch.device], Rows] = {}
        self._contexts: dict[tuple[int, ...], tuple[torch.Tensor | None, int, torch.Tensor]] = {}
        self._scales: dict[tuple[object, ...], tuple[Scales, ColumnScales]] = {}

    def concepts(self, index: int, encoded: Encoded, padding: float, like: torch.Tensor) -> LayerConcepts:
        """Return concepts in a layer."""
        key = index, encoded, padding
        if key not in self._concepts:
            self._concepts[key] = LayerConcepts(self._layers[index], encoded, like, padding, self._placed)
        return self._concepts[key]

    def term(self, rule: ErasingRule, index: int, encoded: Encoded, padding: float, like: torch.Tensor) -> LayerTerm:
        """Return a rule's term for concepts in a layer."""
        key = rule, index, encoded, padding
        if key not in self._terms:
            self._terms[key] = rule.term(self.concepts(index, encoded, padding, like))
        return self._terms[key]

    def rows(self, numbers: Sequence[int], device: torch.device) -> Rows:
        """Return what selects the rows of these numbers, on the device."""
        key = tuple(numbers), device
        if key not in self._rows:
            rows = select(numbers)
            self._rows[key] = rows if isinstance(rows, slice) else rows.to(device)
        return self._rows[key]

    def context_of(self, context: torch.Tensor, numbers: Sequence[int], rows: Rows) -> torch.Tensor:
        """Return the rows of these numbers of ``context`` [B, L, D], the same tensor as long as that is the same."""
        if isinstance(rows, slice) or context.is_inference():
            return context[rows]
        key = tuple(numbers)
        origin, version, found = self._contexts.get(key, (None, 0, context))
        if origin is not context or version != context._version:
            found = context[rows]  # a copy, [rows, L, D]
            self._contexts[key] = context, context._version, found
        return found

    def scales(
        self,
        rule: ErasingRule,
        scales: Scales,
        encoded: Encoded,
        padding: float,
        device: torch.device,
        spread: Spread | None = None,
    ) -> ColumnScales:
        """Return w of every column of a term, on the device. Raises ErasureError for a rule that makes other rows."""
        key: tuple[object, ...] = (
            rule,
            encoded,
            padding,
            device,
            spread,
            *map(id, scales),
        )  # which stay alive with the answer
        if key not in self._scales:
            columns = rule.columns(scales, encoded, padding)  # [rows, columns]
            if columns.ndim != 2 or len(columns) != len(scales[0]):
                raise ErasureError(
                    f"an erasing rule made scales {list(columns.shape)} of {len(scales[0])} rows; expected [rows, "
                    f"columns]"
                )
            if spread is not None:
                numbers, batch = spread
                own, columns = columns, columns.new_zeros(batch, columns.shape[1])  # [batch, columns]
                columns[list(numbers)] = own
            if len(self._scales) >= _MOST_SCALES:
                self._scales.clear()
            self._scales[key] = scales, ColumnScales(columns, owners_of(encoded, padding), device)
        return self._scales[key][1]

    def clear(self) -> None:
        """Forget all: the weights are others, or the concepts are not erased any more."""
        self._concepts.clear()
        self._terms.clear()
        self._scales.clear()
        self._placed.clear()
        self._contexts.clear()
