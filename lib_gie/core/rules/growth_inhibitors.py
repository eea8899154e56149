"""Growth inhibitors, the paper's rule: the concept's attention, times w <= 0, brings its values in once more."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from lib_gie.core.encoding import EncodedConcept
from lib_gie.core.layer_concepts import LayerConcepts, add_product, span_of
from lib_gie.options import DEFAULT_SCALE, LOWEST_SCALE

from .protocol import QUERIES, LayerRun, ScaleRange


class GrowthTerm:
    """W_o((w * M*[..., C]) V*[C]) of all concepts in one layer (section 3.2 of the paper).

    V*[C] and W_o are one matrix, U. M* comes from the layer's own queries, or from a pass under the concept.
    """

    def __init__(self, concepts: LayerConcepts):
        self.concepts = concepts
        with torch.no_grad():
            _ = concepts.keys  # made with U: both belong to the weights as they are now
            self.outputs = concepts.outputs(concepts.values())  # U, [h*columns, C_out]

    def add(self, output: torch.Tensor, run: LayerRun, scales: torch.Tensor) -> None:
        """Add the term of all concepts to ``output`` [B, N, C_out], in place; ``scales``: float32 [B, columns]."""
        w = scales[:, None, None]  # [B, 1, 1, columns]
        if run.maps is not None:
            add_product(output, torch.cat(list(run.maps), -1) * w, self.outputs)
            return
        for pixels in self.concepts.pieces(run.query):
            inhibitors = self.concepts.all_maps(run.query[:, pixels]) * w  # I, [B, h, part of N, columns]
            add_product(output[:, pixels], inhibitors, self.outputs)


class GrowthInhibitorsRule:
    """See ErasingRule."""

    range = ScaleRange(LOWEST_SCALE, DEFAULT_SCALE)
    needs = frozenset({QUERIES})
    takes_adapters = True
    has_concept_pass = True
    is_sum = True
    emphasis_power = 2.0  # what is added grows with the emphasis, and so does the attention to it

    def term(self, concepts: LayerConcepts) -> GrowthTerm:
        """Fold K* and U of the concepts in a layer."""
        return GrowthTerm(concepts)

    def columns(
        self, scales: Sequence[torch.Tensor], concepts: Sequence[EncodedConcept], padding: float = 0.0
    ) -> torch.Tensor:
        """Return w for every column of all concepts: float32 [B, n] each -> [B, columns].

        ``padding``: the scale of EOS and padding, as a share of the mean of the concept's own.
        """
        parts = []
        for scale, encoded in zip(scales, concepts, strict=True):
            span = span_of(encoded, padding)
            rest = span.stop - span.start - encoded.count
            parts += [scale, padding * scale.mean(1, keepdim=True).expand(-1, rest)] if rest else [scale]
        return torch.cat(parts, 1)


RULE = GrowthInhibitorsRule()
