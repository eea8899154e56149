"""Runs the UNet for what scales are read from: the attention to concepts, or the noise that is predicted."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional as F

from lib_gie.errors import ErasureError

from .call import LATENT_CHANNELS, Size, UNetCall, joined, select
from .encoding import EncodedConcept
from .folds import Encoded
from .layers import is_replaced
from .passes import Prediction, Probe
from .recorder import MOST_CELLS, Reading
from .runner import Undisturbed, UNetRunner


@dataclass(frozen=True, eq=False)
class Answer:
    """The outcome of one run of the UNet.

    ``means``: by layer in the order of their runs, by concept the token means, float32 [rows, h, n]; () where no
    attention was read. ``predicted``: the predicted noise, float32 [rows, inputs]; None where it is none of a reading.
    ``misread``: whether it says less than it should (see ``is_misread`` and ``is_longer``).
    """

    means: Sequence[Mapping[EncodedConcept, torch.Tensor]] = ()
    predicted: torch.Tensor | None = None
    misread: bool = False

    def inputs(self, reading: Reading, concept: EncodedConcept) -> torch.Tensor:
        """Return what a rule with this reading gets for a concept, float32 [rows, inputs, n] (predicted noise: n = 1).

        Of predicted noise it is the same for every concept.
        """
        if reading.predicted:
            assert self.predicted is not None  # as ``read`` sees to
            return self.predicted[:, :, None]  # [rows, inputs, 1]
        return reading.inputs([layer[concept] for layer in self.means])  # [rows, inputs, n]


AsText = Callable[[UNetCall, Size], UNetCall]
"""Makes of a host's call the one that it would make for the prompt's text alone, at latents of this size."""


def as_read(call: UNetCall, kind: Reading, as_text: AsText | None) -> UNetCall:
    """Return the call that a kind of reading is made in: what is predicted is read for the prompt's text alone.

    Calibrations know of no picture. ``as_text``: the host's way to leave pictures out.
    """
    if as_text is None or not kind.predicted:
        return call
    return as_text(call, kind.size or call.size)


def read(
    runner: UNetRunner,
    call: UNetCall,
    encoded: Encoded,
    padding: float,
    kind: Reading,
    undisturbed: Undisturbed,
    misread: bool,
    with_twin: bool = False,
) -> Answer:
    """Read what readings of a kind need (``Reading.kind``), in a call of conditional rows, without injection.

    ``misread``: the answer of ``is_misread``; it is read at the call's own size then, and else at the kind's.
    ``with_twin``: whether an answer of attention has what is predicted as well, see ``Reading.twin``.
    """

    def run(of: UNetCall) -> Answer:
        watched: Prediction | Probe = Prediction(runner.layers, runner.folds, of.batch)
        if not kind.predicted:
            watched = Probe(runner.layers, runner.folds, of.batch, encoded, padding)
        output = runner.run_own(watched, of, undisturbed)
        means = watched.means if isinstance(watched, Probe) else []
        predicted = None
        if kind.predicted or with_twin:
            predicted = cells(output_in(output)[:, :LATENT_CHANNELS], kind.size).cpu()  # some tell variances, too
        return Answer([dict(zip(encoded, layer, strict=True)) for layer in means], predicted)

    if kind.noise is None:
        return run(call)
    call = call.at_noise(kind.noise, None if misread else kind.size, kind.timestep)
    if any("forward" in vars(layer.module) for layer in runner.layers):
        return _rows_of(run(call), slice(None))  # another extension's, which may count on whole batches
    chosen, equals = call.distinct_rows()  # images of one prompt need one row
    return _rows_of(run(call.rows(select(chosen))), equals)


def read_together(
    runner: UNetRunner, calls: Mapping[Reading, UNetCall], undisturbed: Undisturbed
) -> dict[Reading, Answer]:
    """Read what the UNet predicts for readings of one size in one run of it, see ``read``: answers by kind.

    ``calls``: by kind the call of conditional rows, as ``as_read`` returns it. None of them may be misread: where
    another extension runs the UNet in its own way, it may count on the host's rows.
    """
    noises = [
        call.at_noise(kind.noise, kind.size, kind.timestep).with_timestep(kind.timestep)
        for kind, call in calls.items() if kind.noise is not None
    ]  # fmt: skip
    chosen, equals = noises[0].distinct_rows()  # alike under one noise, alike under all
    together = joined([call.rows(select(chosen)) for call in noises])
    watched = Prediction(runner.layers, runner.folds, together.batch)
    output = output_in(runner.run_own(watched, together, undisturbed))[:, :LATENT_CHANNELS]  # [kinds * rows, 4, h, w]
    parts = zip(calls, output.split(len(chosen)), strict=True)
    return {kind: _rows_of(Answer(predicted=cells(part, kind.size).cpu()), equals) for kind, part in parts}


def _rows_of(answer: Answer, rows: Any) -> Answer:
    means = [{concept: mean[rows] for concept, mean in layer.items()} for layer in answer.means]
    return Answer(means, None if answer.predicted is None else answer.predicted[rows])


def is_longer(call: UNetCall, kind: Reading, length: int) -> bool:
    """Tell whether a kind of reading is of contexts that no calibration knows: longer than ``length`` states.

    That many have the concepts' own contexts.
    """
    return kind.predicted and call.context.shape[1] != length


def is_misread(runner: UNetRunner, call: UNetCall, kind: Reading) -> bool:
    """Tell whether a kind of reading has to be made at a call's own size, where it says less than it should.

    Attention has to be, where something counts on that size. What is predicted depends on all that the UNet is given
    beside the text, such as ControlNet's pictures, of which no calibration knows.
    """
    if kind.size is None or (call.size == kind.size and not kind.predicted):
        return False
    return _is_replaced(runner) or call.has_pictures


def _is_replaced(runner: UNetRunner) -> bool:
    """Tell whether another extension has put another forward into this UNet, which may count on the image's size."""
    return is_replaced(runner.unet) or any(layer.is_replaced for layer in runner.layers)


def side_by_side(parts: Sequence[torch.Tensor]) -> torch.Tensor:
    """Return the inputs of several readings as one: each float32 [rows, its inputs, n or 1] -> [rows, inputs, n]."""
    tokens = max(part.shape[2] for part in parts)
    return torch.cat([part.expand(-1, -1, tokens) for part in parts], 1)  # [rows, inputs, n]


def output_in(output: Any) -> torch.Tensor:
    """Return the predicted noise [B, C, h, w] in what a UNet returns: it, a tuple with it, or diffusers' object.

    Raises ErasureError for anything else.
    """
    found = output[0] if isinstance(output, tuple) else getattr(output, "sample", output)
    if not isinstance(found, torch.Tensor) or found.ndim != 4:
        raise ErasureError(f"the UNet returned {type(output).__name__}; the noise that it predicts was expected")
    return found


def cells(predicted: torch.Tensor, size: tuple[int, int] | None = None) -> torch.Tensor:
    """Return means over a grid of at most MOST_CELLS x MOST_CELLS: [B, C, h, w] -> float32 [B, inputs].

    ``size``: height and width of the latents that the grid is made for, so that the number of inputs is that of
    ``count_cells`` also where something had to be predicted at another size; None: those of ``predicted``.
    """
    height, width = (min(side, MOST_CELLS) for side in size or predicted.shape[2:])
    return F.adaptive_avg_pool2d(predicted.float(), (height, width)).flatten(1)  # [B, C * height * width]
