"""A run of the UNet that erases: the terms that are added in each layer, and what is recorded beside them."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import cast
from weakref import WeakSet

import torch
from torch import nn

from lib_gie.errors import ErasureError

from .arithmetic import takes_few_kernels
from .call import Rows
from .capture import QUERIES, ProjectionCapture
from .columns import ColumnScales
from .folds import Encoded, Folds
from .layers import AttentionLayer
from .passes import Maps, Pass
from .recorder import AttentionRecorder
from .rules.protocol import ErasingRule, LayerRun, LayerTermBefore

_again: WeakSet[nn.Module] = WeakSet()
"""Layers that ran their W_o again after the terms had been added before it."""


@dataclass(frozen=True, eq=False)
class Injection:
    """A rule's term for some concepts and rows.

    ``scales``: w of all columns and these rows. ``maps``: those of passes of the concepts' own; without them the maps
    are made from the queries of this run.
    """

    rule: ErasingRule
    rows: Rows
    encoded: Encoded
    padding: float
    scales: ColumnScales
    maps: Maps | None = None

    @cached_property
    def parts(self) -> frozenset[str]:
        """The projections whose outputs it reads."""
        return frozenset({QUERIES, *self.rule.needs})

    @property
    def can_be_before(self) -> bool:
        """Tell whether its term can be added to what goes into W_o."""
        return self.rule.adds_before and self.maps is None and isinstance(self.rows, slice)


@dataclass(frozen=True, eq=False)
class Recording:
    """The rows of a run, by their names, in which the attention to concepts is recorded. ``maps``: as of Injection."""

    recorder: AttentionRecorder
    rows: Rows
    names: Sequence[Hashable]
    encoded: Encoded
    padding: float
    maps: Maps | None = None


class _Taken:
    """What a layer's projections made in a run, by projection: [B, N or L, h*d] each."""

    def __init__(self, taken: Mapping[str, torch.Tensor]):
        self._taken = taken
        self._of_rows: dict[tuple[int, str], torch.Tensor] = {}  # by selector and projection
        self._recorded: dict[tuple[int, Encoded, float], list[torch.Tensor]] = {}

    def of(self, rows: Rows, part: str) -> torch.Tensor:
        """Return what a projection made for these rows, [rows, N or L, h*d], taken once."""
        if (id(rows), part) not in self._of_rows:
            self._of_rows[id(rows), part] = self._taken[part][rows]
        return self._of_rows[id(rows), part]

    def keep(self, recording: Recording, maps: list[torch.Tensor]) -> None:
        """Keep the maps that were made to be recorded, of this run's own queries."""
        if recording.maps is None:
            self._recorded[id(recording.rows), recording.encoded, recording.padding] = maps

    def maps_of(self, injection: Injection) -> list[torch.Tensor] | None:
        """Return the maps of an injection's only concept that were made to be recorded, None where none were."""
        found = self._recorded.get((id(injection.rows), injection.encoded, injection.padding))
        return found if injection.rule.has_concept_pass and len(injection.encoded) == 1 else None


class Inject(Pass):
    """A run that erases: what is injected is added to the layers' outputs, and what is recorded is read beside it.

    Where few kernels count, it is added to what goes into W_o instead, wherever all of it can be.
    """

    def __init__(
        self,
        layers: Sequence[AttentionLayer],
        folds: Folds,
        batch: int,
        injections: Sequence[Injection],
        recordings: Sequence[Recording] = (),
        runs_once: bool = False,
    ):
        super().__init__(layers, folds, batch, runs_once)
        self._injections, self._recordings = injections, recordings
        self._parts = frozenset({QUERIES}).union(*(one.parts for one in injections))
        self._can_be_before = bool(injections) and all(one.can_be_before for one in injections)
        self._added: set[int] = set()  # layers that run, with all of it before their W_o
        self._after: set[int] = set()  # layers that run, whose W_o ran without it: it is added after them

    def at_layer(
        self, index: int, context: torch.Tensor, output: torch.Tensor, capture: ProjectionCapture
    ) -> torch.Tensor | None:
        self._after.discard(index)
        if index in self._added:
            self._added.discard(index)
            return None
        recordings = self._due(index, capture)
        if not self._injections and not recordings:
            capture.drop(index)
            return None
        taken = self._take(index, context, capture, recordings)
        if not self._injections:
            return None
        # the layer has just made its output, so it may be changed in place unless it is part of a graph
        result = output.clone() if output.requires_grad else output  # [B, N, C_out]
        for one in self._injections:
            own = result[one.rows]  # [rows, N, C_out], a view where the rows are neighbours
            projected = {part: taken.of(one.rows, part) for part in one.parts}
            maps = taken.maps_of(one) if one.maps is None else one.maps.pop(index)
            term = self.folds.term(one.rule, index, one.encoded, one.padding, context)
            term.add(own, LayerRun(projected, maps), one.scales.columns)
            if not isinstance(one.rows, slice):
                result[one.rows] = own
        return result

    def before_out(self, index: int, hidden: torch.Tensor, capture: ProjectionCapture) -> torch.Tensor | None:
        """Add all terms to ``hidden`` [B, N, h*d], where that takes few kernels and the layer runs as a whole."""
        if not self._is_before(index, hidden, capture):
            if capture.is_running(index):
                self._after.add(index)
            return None
        context = capture.context(index)
        taken = self._take(index, context, capture, self._due(index, capture))
        result = hidden.clone() if hidden.requires_grad else hidden  # [B, N, h*d]
        for one in self._injections:
            projected = {part: taken.of(one.rows, part) for part in one.parts}
            term = self.folds.term(one.rule, index, one.encoded, one.padding, context)
            cast(LayerTermBefore, term).add_before(result[one.rows], LayerRun(projected), one.scales)
        self._added.add(index)
        return result

    def _is_before(self, index: int, hidden: torch.Tensor, capture: ProjectionCapture) -> bool:
        """Tell whether all terms of a layer are added before its W_o. Raises ErasureError where W_o runs again.

        Other extensions' layers may run W_o for some rows, or as often as they like. Then the term is added after them.
        """
        layer = self.layers[index]
        if index in self._added:
            _again.add(layer.module)
            raise ErasureError(
                f"attention layer {layer.name} ran its to_out twice, as another extension or attention processor lets "
                f"it, so it is unknown whether the concept is erased from all that it made. Make the image once more: "
                f"from now on the concept is erased after this layer, where that does not matter"
            )
        may_be = self._can_be_before and index not in self._after and layer.module not in _again
        if not may_be or not takes_few_kernels(hidden.device) or layer.is_replaced:
            return False
        query = capture.whole(index) if capture.is_running(index) else None
        fits = query is not None and query.shape == hidden.shape and len(hidden) == self.batch
        return fits and hidden.is_contiguous()

    def _due(self, index: int, capture: ProjectionCapture) -> list[Recording]:
        pixels = capture.pixels(index) if self._recordings else 0
        return [one for one in self._recordings if pixels and one.recorder.wants(pixels)]

    def _take(
        self, index: int, context: torch.Tensor, capture: ProjectionCapture, recordings: Sequence[Recording]
    ) -> _Taken:
        """Take what the layer's projections made, and record what is to be recorded of it."""
        taken = _Taken({part: capture.take(index, part, self.batch) for part in self._parts})
        for recording in recordings:
            taken.keep(recording, self._record(recording, index, context, taken.of(recording.rows, QUERIES)))
        return taken

    def _record(self, one: Recording, index: int, context: torch.Tensor, query: torch.Tensor) -> list[torch.Tensor]:
        """Record the attention to each concept, and return its maps. ``query``: of these rows, [rows, N, h*d]."""
        concepts = self.folds.concepts(index, one.encoded, one.padding, context)
        numbers = range(len(one.encoded))
        found = [concepts.maps(query, number) for number in numbers] if one.maps is None else one.maps[index]
        for number, maps in zip(numbers, found, strict=True):
            one.recorder.add(number, one.names, concepts.own(maps, number).detach())
        return found
