"""How well a judge tells images with a concept from others, by the images that it learns from anyway."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

FEWEST = 8
"""Images of each kind from which on a trial says something: with fewer a judge that guesses often looks good."""

LEAST_AUC = 0.75
"""The least AUC of a judge that labels are worth making with. Guessing gives 0.5."""


@dataclass(frozen=True)
class Trial:
    """A judge's scores of images without erasure.

    ``showing``: of prompts that name the concept (or imply it, where none names it). ``absent``: of unrelated prompts.
    """

    showing: Sequence[float]
    absent: Sequence[float]

    @property
    def auc(self) -> float:
        """Return the share of pairs, one image of each kind, in which the one with the concept has the higher score."""
        pairs = [(high > low) + 0.5 * (high == low) for high in self.showing for low in self.absent]
        return sum(pairs) / len(pairs)

    @property
    def is_weak(self) -> bool:
        """Tell whether the judge is too weak for the concept. Of few images it is never said."""
        return min(len(self.showing), len(self.absent)) >= FEWEST and self.auc < LEAST_AUC
