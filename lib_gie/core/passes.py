"""What the attention layers do while a UNet runs once: one class for each kind of run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import torch

from lib_gie.errors import ErasureError

from .capture import QUERIES, ProjectionCapture
from .folds import Encoded, Folds
from .layers import AttentionLayer
from .recorder import token_means

Maps = dict[int, list[torch.Tensor]]
"""By layer the maps of each concept from a UNet pass of its own, float32 [rows, h, N, columns]."""


class Pass:
    """A run of the UNet, and how often each of its cross-attention layers has run in it.

    ``batch``: the run's rows. ``runs_once``: whether no layer may run twice, because what is erased comes from another
    run of the UNet than this one.
    """

    def __init__(self, layers: Sequence[AttentionLayer], folds: Folds, batch: int, runs_once: bool = False):
        self.layers, self.folds, self.batch = layers, folds, batch
        self._runs_once = runs_once
        self._fired: Counter[int] = Counter()
        self._contexts: dict[int, torch.Tensor] = {}  # by layer: what it attended to when it first ran

    def run_layer(
        self, index: int, context: torch.Tensor, output: torch.Tensor, capture: ProjectionCapture
    ) -> torch.Tensor | None:
        """Do what is to be done after a layer has run. Returns the output that takes the place of the layer's, or None.

        ``context``: [B, L, D]; ``output``: [B, N, C_out]; ``capture``: of the layer's projections. Raises
        ErasureError.
        """
        self._check_run(index, context)
        return self.at_layer(index, context, output, capture)

    def before_out(self, index: int, hidden: torch.Tensor, capture: ProjectionCapture) -> torch.Tensor | None:
        """Do what is to be done before W_o. Returns what takes the place of ``hidden`` [B, N, h*d], or None."""
        return None

    def at_layer(
        self, index: int, context: torch.Tensor, output: torch.Tensor, capture: ProjectionCapture
    ) -> torch.Tensor | None:
        """Do the work of this kind of pass; see ``run_layer``."""
        raise NotImplementedError

    def _check_run(self, index: int, context: torch.Tensor) -> None:
        """Let a layer run again in a UNet call for the same rows, as for ControlNet's reference image."""
        self._fired[index] += 1
        first = self._contexts.setdefault(index, context)
        if self._fired[index] == 1:
            return
        name = self.layers[index].name
        if first is not context and (first.shape != context.shape or not torch.equal(first, context)):
            raise ErasureError(
                f"attention layer {name} ran twice in one UNet call, with another prompt; another extension lets it: "
                f"switch it off"
            )
        if self._runs_once:
            raise ErasureError(
                f"attention layer {name} ran twice in one UNet call, as ControlNet's reference modes let it. Then the "
                f"concept's attention must be taken from the image's own pass: set the concept pass to fused, and "
                f"neither keep the composition nor follow it"
            )

    def check(self) -> None:
        """Raise ErasureError unless all layers have run, and all of them equally often."""
        if len(self._fired) != len(self.layers):
            raise ErasureError(
                f"{len(self._fired)} of the {len(self.layers)} cross-attention layers ran in a UNet call, so the "
                f"concept could not be erased. A custom UNet (TensorRT, a compiled or caching one) or another "
                f"extension replaces the attention layers: switch it off"
            )
        if len(set(self._fired.values())) > 1:
            raise ErasureError(
                f"some cross-attention layers ran {max(self._fired.values())} times in one UNet call and others "
                f"{min(self._fired.values())} times, so it is unknown what the image was made of. Another extension "
                f"runs them by itself: switch it off"
            )


class Probe(Pass):
    """A run that reads where the concepts' attention is and changes nothing.

    ``means``: by layer in the order of their runs, by concept the token means, float32 [B, h, n]. That order is the
    same in all libraries; that of their modules is not.
    """

    def __init__(self, layers: Sequence[AttentionLayer], folds: Folds, batch: int, encoded: Encoded, padding: float):
        super().__init__(layers, folds, batch)
        self._encoded, self._padding = encoded, padding
        self._means: dict[int, list[torch.Tensor]] = {}

    @property
    def means(self) -> list[list[torch.Tensor]]:
        layers = list(self._means.values())
        found = [mean for layer in layers for mean in layer]
        numbers = torch.cat([mean.flatten() for mean in found]).cpu()  # the host waits for the device once
        parts = numbers.split([mean.numel() for mean in found])
        means = iter(part.view(mean.shape) for part, mean in zip(parts, found, strict=True))  # [B, h, n] each
        return [[next(means) for _ in layer] for layer in layers]

    def at_layer(
        self, index: int, context: torch.Tensor, output: torch.Tensor, capture: ProjectionCapture
    ) -> torch.Tensor | None:
        query = capture.take(index, QUERIES, self.batch)  # [B, N, h*d]
        concepts = self.folds.concepts(index, self._encoded, self._padding, context)
        numbers = range(len(self._encoded))
        means = [token_means(concepts.own(concepts.maps(query, number), number)) for number in numbers]
        self._means.pop(index, None)  # the last run is the image's own
        self._means[index] = means
        return None


class Prediction(Pass):
    """A run that is only to tell what the UNet predicts: it reads and changes nothing in the layers."""

    def at_layer(
        self, index: int, context: torch.Tensor, output: torch.Tensor, capture: ProjectionCapture
    ) -> torch.Tensor | None:
        capture.drop(index)
        return None


class ConceptPass(Pass):
    """A run under a concept, Algorithm 1's DM(z_t, c*, t); only the concept's own columns of M* are kept.

    ``maps``: by layer, float32 [B, h, N, columns].
    """

    def __init__(
        self, layers: Sequence[AttentionLayer], folds: Folds, batch: int, encoded: Encoded, padding: float, number: int
    ):
        super().__init__(layers, folds, batch, runs_once=True)
        self._encoded, self._padding, self._number = encoded, padding, number
        self.maps: dict[int, torch.Tensor] = {}

    def at_layer(
        self, index: int, context: torch.Tensor, output: torch.Tensor, capture: ProjectionCapture
    ) -> torch.Tensor | None:
        query = capture.take(index, QUERIES, self.batch)  # [B, N, h*d]
        concepts = self.folds.concepts(index, self._encoded, self._padding, context)
        self.maps[index] = concepts.maps(query, self._number)
        return None
