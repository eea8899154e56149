"""What is made of concepts and a UNet's weights, once for all steps."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from .encoding import EncodedConcept
from .layer_concepts import LayerConcepts
from .layers import AttentionLayer
from .rules.protocol import ErasingRule, LayerTerm

Encoded = tuple[EncodedConcept, ...]


class Folds:
    """The concepts in each layer of a UNet, and the terms of the rules that erase them.

    ``index`` is a layer's number, ``padding`` as of ErasureSettings, ``like`` the context [B, L, D] that the layer is
    given.
    """

    def __init__(self, layers: Sequence[AttentionLayer]):
        self._layers = layers
        self._concepts: dict[tuple[int, Encoded, float], LayerConcepts] = {}
        self._terms: dict[tuple[ErasingRule, int, Encoded, float], LayerTerm] = {}

    def concepts(self, index: int, encoded: Encoded, padding: float, like: torch.Tensor) -> LayerConcepts:
        """Return concepts in a layer."""
        key = index, encoded, padding
        if key not in self._concepts:
            self._concepts[key] = LayerConcepts(self._layers[index], encoded, like, padding)
        return self._concepts[key]

    def term(self, rule: ErasingRule, index: int, encoded: Encoded, padding: float, like: torch.Tensor) -> LayerTerm:
        """Return a rule's term for concepts in a layer."""
        key = rule, index, encoded, padding
        if key not in self._terms:
            self._terms[key] = rule.term(self.concepts(index, encoded, padding, like))
        return self._terms[key]

    def clear(self) -> None:
        """Forget all: the weights are others, or the concepts are not erased any more."""
        self._concepts.clear()
        self._terms.clear()
