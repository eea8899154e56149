"""The contract of an erasing rule: a file of this package has one, as ``RULE``, and the table ``RULES`` its name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

from lib_gie.core.capture import KEYS, QUERIES, VALUES
from lib_gie.core.columns import ColumnScales
from lib_gie.core.encoding import EncodedConcept
from lib_gie.core.layer_concepts import LayerConcepts
from lib_gie.errors import ErasureError

__all__ = ["KEYS", "QUERIES", "VALUES", "ErasingRule", "LayerRun", "LayerTerm", "LayerTermBefore", "ScaleRange"]


@dataclass(frozen=True)
class ScaleRange:
    """The scales w of a rule. 0 erases nothing, and the lower w is, the more is erased, with every rule.

    So page, floors, infotexts and adapters need not know the rule. A rule that adds puts the sign into its term.
    ``strongest``: the lowest w that the prompt's emphasis leads to. ``default``: the usual w. Raises ValueError for
    numbers above 0.
    """

    strongest: float
    default: float

    def __post_init__(self) -> None:
        if not self.strongest <= self.default <= 0:
            raise ValueError(
                f"the range of scales is {self.strongest:g} with the default {self.default:g}; both must be 0 or below "
                f"and the default not the lower one, since w = 0 erases nothing and a lower w erases more"
            )

    def grown(self, scales: torch.Tensor, factor: float) -> torch.Tensor:
        """Return scales that are ``factor`` times as strong, but by that no stronger than ``strongest``."""
        return torch.maximum(scales * factor, scales.clamp(max=self.strongest))


@dataclass(frozen=True, eq=False)
class LayerRun:
    """A layer's run for the rows that are erased from.

    ``projected``: by QUERIES, KEYS and VALUES what these projections returned, as far as the rule needs it.
    ``maps``: M* of each concept, float32 [rows, h, N, columns of the concept], where it is known: from a UNet pass
    under it, or because it was made to be recorded. None where it has to be made.
    """

    projected: Mapping[str, torch.Tensor]
    maps: Sequence[torch.Tensor] | None = None

    @property
    def query(self) -> torch.Tensor:
        """The queries [rows, N, h*d]."""
        return self._of(QUERIES)

    @property
    def keys(self) -> torch.Tensor:
        """The prompt's keys [rows, L, h*d]. Raises ErasureError for a rule that does not name KEYS."""
        return self._of(KEYS)

    @property
    def values(self) -> torch.Tensor:
        """The prompt's values [rows, L, h*d]. Raises ErasureError for a rule that does not name VALUES."""
        return self._of(VALUES)

    def _of(self, part: str) -> torch.Tensor:
        if part not in self.projected:
            raise ErasureError(f"an erasing rule reads what {part} returned; it must name that in its needs")
        return self.projected[part]


class LayerTerm(Protocol):
    """A rule in one layer, for the concepts of a generation: all that does not change from step to step."""

    def add(self, output: torch.Tensor, run: LayerRun, scales: torch.Tensor) -> None:
        """Add the rule's term to ``output`` [rows, N, C_out], in place.

        ``scales``: w of each column, float32 [rows, columns], see ``ErasingRule.columns``; the term must be zero where
        w is.
        """
        ...


class LayerTermBefore(LayerTerm, Protocol):
    """A term that can be added to what goes into W_o as well, which takes fewer kernels."""

    def add_before(self, hidden: torch.Tensor, run: LayerRun, scales: ColumnScales) -> None:
        """Add the same term, without its W_o, to what goes into W_o: ``hidden`` [rows, N, h*d], in place.

        It takes the place of ``add`` on a GPU, where few kernels count, and never has ``maps``.
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
    """Whether it can use the concepts' maps of UNet passes under them ("separate"), and erase their padding, too."""
    is_sum: bool
    """Whether the term of several concepts is the sum of theirs. Then all that is erased from a row is one term."""
    adds_before: bool
    """Tells whether its terms are LayerTermBefore."""
    emphasis_power: float
    """w grows with the largest emphasis in the prompt to this power."""

    def term(self, concepts: LayerConcepts) -> LayerTerm:
        """Fold the concepts into what a layer needs of them in every step."""
        ...

    def columns(
        self, scales: Sequence[torch.Tensor], concepts: Sequence[EncodedConcept], padding: float
    ) -> torch.Tensor:
        """Return w of every column of the term: float32 [rows, n] of each concept -> [rows, columns].

        ``padding``: see ErasureSettings; 0 unless the rule ``has_concept_pass``.
        """
        ...
