"""Growth inhibitors, the paper's rule: the concept's attention, times w <= 0, brings its values in once more."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property

import torch
from torch.nn import functional as F

from lib_gie.core.columns import ColumnScales
from lib_gie.core.encoding import EncodedConcept
from lib_gie.core.layer_concepts import LayerConcepts, add_product, span_of
from lib_gie.options import DEFAULT_SCALE, LOWEST_SCALE

from .protocol import QUERIES, LayerRun, ScaleRange

_AT_ONCE = 2**26
"""Numbers that one attention kernel returns at most, or scores where none does it at once: what the term needs for
itself stays small beside the UNet."""


class GrowthTerm:
    """W_o((w * M*[..., C]) V*[C]) of all concepts in one layer (section 3.2 of the paper).

    M* comes from the layer's own queries, or from a pass under the concept. There are two ways to the term: ``add``
    does the least work, ``add_before`` takes the fewest kernels.
    """

    def __init__(self, concepts: LayerConcepts):
        self.concepts = concepts
        self._by_group: dict[tuple[tuple[int | None, ...], torch.dtype], tuple[torch.Tensor, torch.Tensor]] = {}

    @cached_property
    def outputs(self) -> torch.Tensor:
        """V*[C] and W_o as one matrix, U: [h*columns, C_out]."""
        with torch.no_grad():
            _ = self.concepts.keys  # made with U: both belong to the weights as they are now
            return self.concepts.outputs(self.concepts.values())

    def add(self, output: torch.Tensor, run: LayerRun, scales: torch.Tensor) -> None:
        """Add the term of all concepts to ``output`` [B, N, C_out], in place; ``scales``: float32 [B, columns]."""
        w, outputs = scales[:, None, None], self.outputs  # [B, 1, 1, columns], [h*columns, C_out]
        if run.maps is not None:
            maps = torch.cat(list(run.maps), -1) if len(run.maps) > 1 else run.maps[0]  # [B, h, N, columns]
            add_product(output, maps * w, outputs)
            return
        for pixels in self.concepts.pieces(run.query):
            inhibitors = self.concepts.all_maps(run.query[:, pixels]).mul_(w)  # I, [B, h, part of N, columns]
            add_product(output[:, pixels], inhibitors, outputs)

    def add_before(self, hidden: torch.Tensor, run: LayerRun, scales: ColumnScales) -> None:
        """Add the term without its W_o to what goes into W_o, ``hidden`` [B, N, h*d], in place.

        Attention with values that are zero but on the concept's own tokens is M*[..., C] V*[C]; no map is written. Its
        multiplications with zero are the price. The rows of a batch have K* and V* in common, so they are one row of
        B*N pixels for the kernel; with w of a row the outcome is then added up over the groups. The kernel divides by
        sqrt(d) itself: extensions put others in its place, and not all of these take a scale.
        """
        rows, heads = len(hidden), self.concepts.heads
        keys, values = self._attended(scales.groups, hidden.dtype)  # [groups, h, L, d] each
        pixels = run.query.to(hidden.dtype).reshape(-1, heads, keys.shape[-1]).transpose(0, 1)  # [h, B*N, d]
        w = scales.by_group(hidden.dtype)  # [B, groups]
        length, depth = keys.shape[-2:]
        for some in _runs(len(keys), hidden.numel() * max(length, depth) // depth):
            query = pixels.expand(len(keys[some]), -1, -1, -1)  # [some, h, B*N, d], which copies nothing
            found = F.scaled_dot_product_attention(query, keys[some], values[some])  # [some, h, B*N, d]
            by_row = found.transpose(1, 2).reshape(-1, rows, hidden[0].numel())  # [some, B, N*h*d]
            _add_weighted(hidden, by_row.to(hidden.dtype), w[:, some])  # autocast may have made it another one

    def _attended(self, groups: tuple[int | None, ...], dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
        """Return K* and V* of every group, see ColumnScales: [groups, h, L, d] each."""
        if (groups, dtype) not in self._by_group:
            owners = dict(zip(groups, self.concepts.owners, strict=True))
            numbers = [owners[group] for group in range(len(set(groups) - {None}))]
            with torch.no_grad():
                keys = self.concepts.keys_of(numbers).to(dtype)
                keys = keys if keys.stride(-1) == 1 else keys.contiguous()  # what attention kernels need
                self._by_group[groups, dtype] = keys, self.concepts.values_by_group(groups, len(numbers)).to(dtype)
        return self._by_group[groups, dtype]


def _runs(groups: int, numbers: int) -> Iterator[slice]:
    """Return runs of groups that are attended to at once. ``numbers``: how many one of them returns."""
    count = max(1, _AT_ONCE // numbers)
    return (slice(start, start + count) for start in range(0, groups, count))


def _add_weighted(hidden: torch.Tensor, found: torch.Tensor, w: torch.Tensor) -> None:
    """Add the sum of w times ``found`` [groups, B, N*h*d] to ``hidden`` [B, N, h*d], in place; w: [B, groups]."""
    if len(found) == 1:
        hidden.addcmul_(found.view_as(hidden), w[:, :, None])
    else:
        hidden.view(len(hidden), 1, -1).baddbmm_(w[:, None], found.transpose(0, 1))  # [B, 1, N*h*d]


class GrowthInhibitorsRule:
    """See ErasingRule."""

    range = ScaleRange(LOWEST_SCALE, DEFAULT_SCALE)
    needs = frozenset({QUERIES})
    takes_adapters = True
    has_concept_pass = True
    is_sum = True
    adds_before = True
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
