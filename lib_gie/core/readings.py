"""Runs the UNet for what scales are read from: the attention to concepts, or the noise that is predicted."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional as F

from lib_gie.errors import ErasureError

from .call import Size, UNetCall, select
from .encoding import EncodedConcept
from .folds import Encoded
from .passes import Prediction, Probe
from .recorder import MOST_CELLS, Reading
from .runner import Undisturbed, UNetRunner


@dataclass(frozen=True, eq=False)
class Answer:
    """The outcome of one run of the UNet. It holds either of both.

    ``means``: by layer in the order of their runs, by concept the token means, float32 [rows, h, n]. ``predicted``: the
    predicted noise, float32 [rows, inputs]. ``misread``: whether it had to be read at another size than was asked for.
    """

    means: Sequence[Mapping[EncodedConcept, torch.Tensor]] = ()
    predicted: torch.Tensor | None = None
    misread: bool = False

    def inputs(self, reading: Reading, concept: EncodedConcept) -> torch.Tensor:
        """Return what a rule with this reading gets for a concept, float32 [rows, inputs, n] (predicted noise: n = 1).

        Of predicted noise it is the same for every concept.
        """
        if self.predicted is not None:
            return self.predicted[:, :, None]  # [rows, inputs, 1]
        return reading.inputs([layer[concept] for layer in self.means])  # [rows, inputs, n]


AsText = Callable[[UNetCall, Size], UNetCall]
"""Makes of a host's call the one that it would make for the prompt's text alone, at latents of this size."""


def read(
    runner: UNetRunner,
    call: UNetCall,
    encoded: Encoded,
    padding: float,
    kind: Reading,
    undisturbed: Undisturbed,
    as_text: AsText | None = None,
) -> Answer:
    """Read what readings of a kind need (``Reading.kind``), in a call of conditional rows, without injection.

    ``as_text``: what is predicted is read in the call that it makes, as calibrations know of no picture.
    """

    def run(of: UNetCall) -> Answer:
        if kind.predicted:
            watched = Prediction(runner.layers, runner.folds, of.batch)
            return Answer(predicted=cells(output_in(runner.run_own(watched, of, undisturbed))).cpu())
        probe = Probe(runner.layers, runner.folds, of.batch, encoded, padding)
        runner.run_own(probe, of, undisturbed)
        return Answer([dict(zip(encoded, layer, strict=True)) for layer in probe.means])

    if kind.noise is None:
        return run(call)
    if kind.predicted and as_text is not None:
        call = as_text(call, kind.size or call.size)
    misread = kind.size not in (None, call.size) and (_is_replaced(runner) or call.has_pictures)
    call = call.at_noise(kind.noise, None if misread else kind.size, kind.timestep)
    if any("forward" in vars(layer.module) for layer in runner.layers):
        return _rows_of(run(call), slice(None), misread)  # another extension's, which may count on whole batches
    chosen, equals = call.distinct_rows()  # images of one prompt need one row
    return _rows_of(run(call.rows(select(chosen))), equals, misread)


def _rows_of(answer: Answer, rows: Any, misread: bool) -> Answer:
    means = [{concept: mean[rows] for concept, mean in layer.items()} for layer in answer.means]
    return Answer(means, None if answer.predicted is None else answer.predicted[rows], misread)


def _is_replaced(runner: UNetRunner) -> bool:
    """Tell whether another extension has put another forward into this UNet, which may count on the image's size.

    The library that moves weights between devices does so, too; its forward changes nothing.
    """
    modules = [runner.unet, *(layer.module for layer in runner.layers)]
    return any("forward" in vars(module) and not hasattr(module, "_hf_hook") for module in modules)


def output_in(output: Any) -> torch.Tensor:
    """Return the predicted noise [B, C, h, w] in what a UNet returns: it, a tuple with it, or diffusers' object.

    Raises ErasureError for anything else.
    """
    found = output[0] if isinstance(output, tuple) else getattr(output, "sample", output)
    if not isinstance(found, torch.Tensor) or found.ndim != 4:
        raise ErasureError(f"the UNet returned {type(output).__name__}; the noise that it predicts was expected")
    return found


def cells(predicted: torch.Tensor) -> torch.Tensor:
    """Return means over a grid of at most MOST_CELLS x MOST_CELLS: [B, C, h, w] -> float32 [B, inputs]."""
    height, width = (min(side, MOST_CELLS) for side in predicted.shape[2:])
    return F.adaptive_avg_pool2d(predicted.float(), (height, width)).flatten(1)  # [B, C * height * width]
