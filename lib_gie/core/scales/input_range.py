"""The range of the inputs that a scale was fitted on, so that inputs outside it are noticed."""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch

from lib_gie.errors import AdapterError

DIRECTIONS = 128
"""The most directions in which the inputs' spread is kept. With more inputs than prompts the others are noise."""

_PROMPTS_FOR_ONE = 5  # prompts that one direction's spread is estimated from
_LEAST_SPREAD = 0.01  # of an input, as a share of its mean; of a direction, as a variance
_QUANTILE, _SLACK = 0.95, 1.25


@dataclass(frozen=True, eq=False)
class InputRange:
    """A Gaussian around the training inputs, and how far from its middle they still count as known.

    ``mean``, ``spread``: each input's, float32 [inputs]. ``directions``: those in which the normalised inputs vary
    most, float32 [k, inputs]. ``variances``: along each of them, and last along every other direction, float32 [k + 1].
    ``bound``: the greatest distance that counts as known, float32 [1].

    Some inputs are the same for every prompt, which has not reached the first layers yet. They depend on the model, its
    LoRAs, clip skip and the concept's text, so another setting of these is far outside.
    """

    mean: torch.Tensor
    spread: torch.Tensor
    directions: torch.Tensor
    variances: torch.Tensor
    bound: torch.Tensor

    def distances(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return Mahalanobis distances: float32 [N, inputs] -> [N]."""
        normal = (inputs - self.mean) / self.spread  # [N, inputs]
        along = normal @ self.directions.T  # [N, k]
        rest = (normal.square().sum(1) - along.square().sum(1)).clamp_min(0)  # [N]
        return ((along.square() / self.variances[:-1]).sum(1) + rest / self.variances[-1]).sqrt()

    def is_outside(self, inputs: torch.Tensor) -> torch.Tensor:
        """Tell whether any of a concept's tokens is out of range: float32 [rows, inputs, n] -> bool [rows]."""
        rows = inputs.float().transpose(1, 2)  # [rows, n, inputs]
        near = self.distances(rows.flatten(0, 1)) <= self.bound  # [rows*n]; false for what is not finite
        return near.reshape(rows.shape[:2]).all(1).logical_not()

    def tensors(self) -> dict[str, torch.Tensor]:
        """Return the tensors by name, as an adapter's file keeps them."""
        return {f"{PREFIX}{part.name}": getattr(self, part.name) for part in fields(self)}


def outside(known: InputRange | None, inputs: torch.Tensor) -> torch.Tensor:
    """Tell which rows are out of a range, float32 [rows, inputs, n] -> bool [rows]; where there is none no row is."""
    if known is None:
        return torch.zeros(len(inputs), dtype=torch.bool)
    with torch.autocast(inputs.device.type, enabled=False):
        return known.is_outside(inputs)


PREFIX = "range_"
NAMES = frozenset(PREFIX + part.name for part in fields(InputRange))


def fit_range(inputs: torch.Tensor, held: torch.Tensor) -> InputRange:
    """Fit the range to an adapter's training inputs, float32 [N, inputs], and to held-out ones, float32 [M, inputs].

    The held-out prompts' distances set the bound: with few prompts those of the training prompts are too small.
    """
    mean = inputs.mean(0)  # [inputs]
    spread = torch.maximum(inputs.std(0, correction=0), _LEAST_SPREAD * mean.abs()).clamp_min(1e-8)  # [inputs]
    normal = (inputs - mean) / spread  # [N, inputs]
    _, lengths, directions = torch.linalg.svd(normal, full_matrices=False)
    variances = lengths.square() / len(normal)  # in falling order
    kept = min(DIRECTIONS, max(1, len(normal) // _PROMPTS_FOR_ONE), len(variances))
    rest = float(variances[kept:].sum()) / max(1, normal.shape[1] - kept)
    rest = max(rest, _LEAST_SPREAD)
    variances = torch.cat([variances[:kept].clamp_min(rest), torch.tensor([rest])])  # [k + 1]
    found = InputRange(mean, spread, directions[:kept].contiguous(), variances, torch.zeros(1))
    bound = _SLACK * torch.quantile(found.distances(held), _QUANTILE)
    return InputRange(mean, spread, found.directions, variances, bound[None])


def take_range(tensors: dict[str, torch.Tensor], inputs: int, name: str) -> InputRange | None:
    """Take the range of the inputs out of a file's tensors. Return None where there is none."""
    found = {key.removeprefix(PREFIX): tensors.pop(key).float() for key in sorted(NAMES & tensors.keys())}
    if not found:
        return None
    count = len(found["directions"]) if "directions" in found and found["directions"].ndim else 0
    expected = {
        "mean": (inputs,), "spread": (inputs,), "directions": (count, inputs), "variances": (count + 1,), "bound": (1,)
    }  # fmt: skip
    shapes = {key: tuple(value.shape) for key, value in found.items()}
    if shapes != expected or not 1 <= count <= DIRECTIONS:
        raise AdapterError(f"{name}: the range of its inputs has the shapes {shapes}, expected {expected}")
    if not all(torch.isfinite(value).all() for value in found.values()):
        raise AdapterError(
            f"{name}: the range of its inputs holds numbers that are not finite; the file is damaged: get it again"
        )
    if min(found[part].min() for part in ("spread", "variances", "bound")) <= 0:
        raise AdapterError(
            f"{name}: spreads in the range of its inputs must be positive; the file is damaged: get it again"
        )
    return InputRange(**found)
