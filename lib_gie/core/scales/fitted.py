"""The contract of scales that were fitted for concepts and kept in a file: adapters and calibrations."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Protocol

import torch

from lib_gie.core.recorder import Reading

from .calibrated.info import CALIBRATED

GOOD_ENOUGH = "good_enough"
"""The entry of ``validation`` that is False where the training found that one fixed scale does as well or better, or
saw the concept in no image, or saw no scale erase it."""


class FittedInfo(Protocol):
    """A file's description of itself."""

    @property
    def base(self) -> str:
        """Return the model family."""

    @property
    def inputs(self) -> int:
        """Return the number of inputs."""

    @property
    def concepts(self) -> tuple[str, ...]:
        """Return the concepts that it is for."""

    @property
    def label_range(self) -> tuple[float, float]:
        """Return the strongest and the weakest of its scales."""

    @property
    def conditions(self) -> Mapping[str, float]:
        """Return settings that it was fitted at ("clip_skip", "cfg"), as far as they are known."""

    @property
    def training(self) -> Mapping[str, Any]:
        """Return figures of how it was made."""

    @property
    def validation(self) -> Mapping[str, Any]:
        """Return figures of how well it does."""


class Fitted(Protocol):
    """A rule for scales that depends on what is read of the prompt."""

    @property
    def kind(self) -> str:
        """Return ADAPTER or CALIBRATED."""

    @property
    def info(self) -> FittedInfo:
        """Return its description."""

    @property
    def readings(self) -> Sequence[Reading]:
        """Return the readings that give its inputs."""

    @property
    def optional(self) -> Collection[Reading]:
        """Return those of the readings that it can do without: their inputs are NaN where they say too little."""

    @property
    def knows_its_range(self) -> bool:
        """Tell whether ``is_outside`` can tell prompts that are unlike all that it was fitted on."""

    @property
    def in_full(self) -> float:
        """Return the answer from which its concept counts as present in full, below 0; 0: answers do not tell that."""

    @property
    def weights_digest(self) -> str:
        """Return 12 hex digits that differ where its scales do."""

    def scales(self, inputs: torch.Tensor | None, rows: int, tokens: int) -> torch.Tensor:
        """Return w: float32 [rows, inputs, tokens] -> [rows, tokens]."""
        ...

    def is_outside(self, inputs: torch.Tensor) -> torch.Tensor:
        """Tell which rows are unlike all that it was fitted on: float32 [rows, inputs, n] -> bool [rows]."""
        ...

    def is_for(self, concept: str) -> bool:
        """Tell whether it is for a concept, given by its case-folded text."""
        ...

    def fits(self, family: str, heads: Sequence[int]) -> bool:
        """Tell whether a model of this family, with these heads of each cross-attention layer, gives its inputs."""
        ...

    def check_model(self, family: str, heads: Sequence[int]) -> None:
        """Raise AdapterError for a model that it does not fit."""
        ...


def kind_name(fitted: Fitted) -> str:
    """Return what users are told that a fitted scale is: "adapter" or "calibration"."""
    return "calibration" if fitted.kind == CALIBRATED else "adapter"
