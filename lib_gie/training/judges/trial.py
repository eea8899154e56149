"""How well a judge tells images with a concept from others, by the images that it learns from anyway."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

FEWEST = 8
"""Images of each kind from which on a trial says something: with fewer a judge that guesses often looks good."""

LEAST_AUC = 0.75
"""The least AUC of a judge that labels are worth making with. Guessing gives 0.5.

Even a judge that knows has less where under half of the images of prompts with the concept show it.
"""


def auc(showing: Sequence[float], absent: Sequence[float]) -> float:
    """Return the share of pairs, one image of each kind, in which the one with the concept has the higher score.

    ``showing``, ``absent``: scores of images with the concept and without it. Equal scores count for half a pair.
    Raises ValueError where there is no pair.
    """
    if not (showing and absent):
        raise ValueError(f"{len(showing)} images with the concept and {len(absent)} without it make no pair")
    high = torch.tensor(showing, dtype=torch.float64)[:, None]  # [S, 1]
    low = torch.tensor(absent, dtype=torch.float64)[None]  # [1, A]
    return float(((high > low).double() + 0.5 * (high == low)).mean())


@dataclass(frozen=True)
class Trial:
    """A judge's scores of images without erasure.

    ``showing``: of prompts that name the concept (or imply it, where none names it). ``absent``: of unrelated prompts.
    """

    showing: Sequence[float]
    absent: Sequence[float]

    @property
    def auc(self) -> float:
        """Return how well the scores tell the two kinds apart (see ``auc``)."""
        return auc(self.showing, self.absent)

    @property
    def is_weak(self) -> bool:
        """Tell whether the two kinds are hard to tell apart by the scores. Of few images it is never said.

        Either the judge is too weak for the concept, or few of the images that should show it do.
        """
        return min(len(self.showing), len(self.absent)) >= FEWEST and self.auc < LEAST_AUC
