"""The contract of an erasing rule: a file of this package has one, as ``RULE``, and the table ``RULES`` its name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

from lib_gie.core.capture import KEYS, QUERIES, VALUES
from lib_gie.core.encoding import EncodedConcept
from lib_gie.core.layer_concepts import LayerConcepts

__all__ = ["KEYS", "QUERIES", "VALUES", "ErasingRule", "LayerRun", "LayerTerm", "ScaleRange"]


@dataclass(frozen=True)
class ScaleRange:
    """The scales w of a rule: from 0, which erases nothing, to ``strongest``, with a sign. ``default``: the usual w."""

    strongest: float
    default: float

    def limited(self, scales: torch.Tensor, floor: float = 0.0) -> torch.Tensor:
        """Return scales none of which is weaker than ``floor``, nor of the other sign."""
        return scales.clamp(max=floor) if self.strongest < 0 else scales.clamp(min=floor)

    def stronger(self, scales: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
        """Return the stronger of both, element by element."""
        return torch.minimum(scales, others) if self.strongest < 0 else torch.maximum(scales, others)

    def grown(self, scales: torch.Tensor, factor: float) -> torch.Tensor:
        """Return scales that are ``factor`` times as strong, but not stronger by that than ``strongest``."""
        most = self.stronger(scales, torch.full_like(scales, self.strongest))
        grown = scales * factor
        return torch.maximum(grown, most) if self.strongest < 0 else torch.minimum(grown, most)


@dataclass(frozen=True, eq=False)
class LayerRun:
    """A layer's run for the rows that are erased from.

    ``query``: [rows, N, h*d], as ``to_q`` returned it. ``keys``, ``values``: [rows, L, h*d], as ``to_k`` and ``to_v``
    returned them of the prompt; None unless the rule asks for them. ``maps``: M* of each concept from a UNet pass under
    it, float32 [rows, h, N, columns of the concept]; None where there is no such pass.
    """

    query: torch.Tensor
    keys: torch.Tensor | None = None
    values: torch.Tensor | None = None
    maps: Sequence[torch.Tensor] | None = None


class LayerTerm(Protocol):
    """A rule in one layer, for the concepts of a generation: all that does not change from step to step."""

    def add(self, output: torch.Tensor, run: LayerRun, scales: torch.Tensor) -> None:
        """Add the rule's term to ``output`` [rows, N, C_out], in place.

        ``scales``: w of each column, float32 [rows, columns], see ``ErasingRule.columns``; the term must be zero where
        w is.
        """
        ...


class ErasingRule(Protocol):
    """A way to leave concepts out of what a cross-attention layer returns."""

    range: ScaleRange
    needs: frozenset[str]
    """Projections whose outputs ``LayerTerm.add`` reads: QUERIES, KEYS, VALUES."""
    takes_adapters: bool
    """Whether adapters, which are fitted on growth inhibitors, give its scales."""
    has_concept_pass: bool
    """Whether it can take the concepts' attention from UNet passes under them, and inhibit their padding."""
    is_sum: bool
    """Whether the term of several concepts is the sum of theirs. Then all that is erased from a row is one term."""
    emphasis_power: float
    """w grows with the largest emphasis in the prompt to this power."""

    def term(self, concepts: LayerConcepts) -> LayerTerm:
        """Fold the concepts into what a layer needs of them in every step."""
        ...

    def columns(
        self, scales: Sequence[torch.Tensor], concepts: Sequence[EncodedConcept], padding: float
    ) -> torch.Tensor:
        """Return w of every column of the term: float32 [rows, n] of each concept -> [rows, columns]."""
        ...
