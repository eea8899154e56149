"""A linear discriminant that tells from the noise that a UNet predicts how present a concept is in a prompt."""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch

_LEAST_SPREAD = 1e-4
SHRINKAGE = 0.1
"""Share of the covariance that is replaced by its diagonal, as there are more inputs than prompts."""

FOLDS = 8
"""Parts of the prompts that are scored by a discriminant fitted on the others."""


@dataclass(frozen=True, eq=False)
class Discriminant:
    """Linear discriminant analysis (Fisher, 1936).

    ``mean``, ``spread``: of each input over neutral prompts, float32 [inputs]. ``direction``: float32 [inputs]. A score
    is 0 at the mean of neutral prompts and 1 at the mean of prompts that name the concept.
    """

    mean: torch.Tensor
    spread: torch.Tensor
    direction: torch.Tensor

    def scores(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return scores: float32 [rows, inputs] -> [rows]."""
        return ((inputs.float() - self.mean) / self.spread) @ self.direction

    def tensors(self) -> dict[str, torch.Tensor]:
        """Return the tensors by name, as a file keeps them."""
        return {part.name: getattr(self, part.name) for part in fields(self)}


def fit_discriminant(neutral: torch.Tensor, naming: torch.Tensor) -> Discriminant:
    """Fit it to the inputs of neutral prompts, float32 [N, inputs], and of prompts that name the concept [P, inputs].

    The covariance within both is shrunk towards its diagonal (Friedman, 1989). An input that is the same for all
    neutral prompts tells nothing and counts nothing. Where no other input tells anything, every score is 0.
    """
    mean = neutral.mean(0)  # [inputs]
    spread = neutral.std(0)  # [inputs]
    varies = spread > _LEAST_SPREAD
    spread = torch.where(varies, spread, torch.ones_like(spread))
    absent, present = ((part - mean) / spread * varies for part in (neutral, naming))  # [N, inputs], [P, inputs]
    apart = present.mean(0).double()  # [inputs]
    within = torch.cat([absent, present - present.mean(0)]).double()  # [N + P, inputs]
    direction = _solved(within, apart)  # [inputs]
    distance = float(direction @ apart)  # above 0 unless both kinds of prompts have the same means
    return Discriminant(mean, spread, (direction / (distance or 1.0)).float())


def _solved(within: torch.Tensor, apart: torch.Tensor) -> torch.Tensor:
    """Return the inverse of the shrunk covariance of ``within``, float64 [rows, inputs], times ``apart``, [inputs].

    There are far more inputs than rows, so it is found among the rows (Woodbury's identity).
    """
    diagonal = SHRINKAGE * within.square().mean(0) + _LEAST_SPREAD  # [inputs]
    scaled = within / diagonal  # [rows, inputs]
    among = scaled @ within.T  # [rows, rows]
    among.diagonal().add_(len(within) / (1 - SHRINKAGE))
    inner: torch.Tensor = torch.linalg.solve(among, scaled @ apart)  # [rows]
    return apart / diagonal - scaled.T @ inner  # [inputs]


def held_out_scores(
    neutral: torch.Tensor, naming: torch.Tensor, groups: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return each prompt's score by a discriminant that was fitted without it: float32 [N], and of naming ones [P'].

    With more inputs than prompts, the scores of the prompts that it was fitted on lie far too close together.
    ``groups``: int64 [P], for each naming prompt the number of the neutral one that it was made from, -1: it was made
    from none. Both are left out together. The P' naming prompts that were made from one have a score.
    """
    numbers = torch.arange(len(neutral))
    absent, present = torch.empty(len(neutral)), torch.empty(len(naming))  # [N], [P]
    for fold in range(FOLDS):
        held = numbers % FOLDS == fold  # [N]
        left_out = (groups >= 0) & (groups % FOLDS == fold)  # [P]
        found = fit_discriminant(neutral[~held], naming[~left_out])
        absent[held], present[left_out] = found.scores(neutral[held]), found.scores(naming[left_out])
    return absent, present[groups >= 0]
