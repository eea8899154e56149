"""Value projection: what the prompt's values have in common with the concept's is taken out of them.

Wang et al., "Precise, fast and low-cost concept erasure in value space: orthogonal complement matters" (CVPR 2025,
AdaVD). The value of the concept's last own token spans its direction. Each of the prompt's tokens loses its component
along it, the more completely the more alike both values are (the paper's shift factor). What is left of the attention
is then that of the changed values: M (V + w E) = M V + w M E, where E are the components. So this rule, too, adds a
term to the layer's output and changes no attention.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn import functional as F

from lib_gie.core.encoding import EncodedConcept
from lib_gie.core.layer_concepts import LayerConcepts, add_product, pieces
from lib_gie.options import LOWEST_SCALE

from .protocol import KEYS, QUERIES, VALUES, LayerRun, ScaleRange

STEEPNESS, THRESHOLD, MOST_SHIFT = 100.0, 0.93, 2.0
"""The shift factor, as the released code has it by default: 1 at a cosine of 0.93, and all but 0 for unlike values."""


def shift_factors(cosines: torch.Tensor) -> torch.Tensor:
    """Return how much of a component is taken out, 0 to MOST_SHIFT.

    ``cosines``: between the values of tokens and of concepts, any shape.
    """
    return MOST_SHIFT * torch.sigmoid(STEEPNESS * (cosines - THRESHOLD))


class ProjectionTerm:
    """W_o(w M E) of all concepts in one layer."""

    def __init__(self, concepts: LayerConcepts):
        self._heads, self._length = concepts.heads, concepts.length
        with torch.no_grad():
            states = concepts.states("value_states")  # [k, L, D]
            last = torch.stack([one[about.count] for one, about in zip(states, concepts.concepts, strict=True)])
            values = concepts.layer.to_v(last[None])[0]  # [k, h*d]
            self._outputs = concepts.outputs(values)  # [h*k, C_out]
            self._values = values.float()
            self._directions = F.normalize(self._values, dim=-1).T  # [h*d, k]
            gram = self._values.double() @ self._values.double().T  # [k, k]
            self._inverse = torch.linalg.pinv(gram, hermitian=True).float()  # concepts may be all but the same

    def components(self, values: torch.Tensor) -> torch.Tensor:
        """Return E by its factors of the concepts' values: the prompt's values [B, L, h*d] -> float32 [B, L, k].

        Several concepts span a space; a token's component in it is the sum of one along each. BOS, with which every
        context begins, keeps its value: it holds no text.
        """
        own = values.float()
        shares = own @ self._values.T @ self._inverse  # [B, L, k]
        cosines = F.normalize(own, dim=-1) @ self._directions  # [B, L, k]
        found: torch.Tensor = shares * shift_factors(cosines)
        found[:, :: self._length] = 0
        return found

    def add(self, output: torch.Tensor, run: LayerRun, scales: torch.Tensor) -> None:
        """Add the term of all concepts to ``output`` [B, N, C_out], in place; ``scales``: float32 [B, k]."""
        found = self.components(run.values) * scales[:, None]  # w E, [B, L, k]
        taken = found[:, None].expand(-1, self._heads, -1, -1).to(run.query.dtype)  # [B, h, L, k]
        keys = _by_head(run.keys, self._heads)
        for pixels in pieces(run.query, self._heads, run.keys.shape[1]):
            query = _by_head(run.query[:, pixels], self._heads)  # [B, h, part of N, d]
            weights = F.scaled_dot_product_attention(query, keys, taken)  # w M E, [B, h, part of N, k]
            add_product(output[:, pixels], weights, self._outputs)


def _by_head(projected: torch.Tensor, heads: int) -> torch.Tensor:
    """Split by heads: [B, L, h*d] -> [B, h, L, d]."""
    split: torch.Tensor = projected.unflatten(-1, (heads, -1))  # [B, L, h, d]
    return split.transpose(1, 2)


class ValueProjectionRule:
    """See ErasingRule. w = -1 takes out what the paper does."""

    range = ScaleRange(LOWEST_SCALE, -1.0)
    needs = frozenset({QUERIES, KEYS, VALUES})
    takes_adapters = False
    has_concept_pass = False
    adds_before = False
    is_sum = False  # one concept's component in the space of several is less than along its own direction
    emphasis_power = 0.0  # an emphasised token's value, and so its component, are larger themselves

    def term(self, concepts: LayerConcepts) -> ProjectionTerm:
        """Fold the concepts' directions in a layer."""
        return ProjectionTerm(concepts)

    def columns(
        self, scales: Sequence[torch.Tensor], concepts: Sequence[EncodedConcept], padding: float = 0.0
    ) -> torch.Tensor:
        """Return w of each concept, the mean of its tokens': float32 [B, n] each -> [B, k]."""
        return torch.stack([scale.mean(1) for scale in scales], 1)


RULE = ValueProjectionRule()
