"""How strongly a concept is suppressed: rules that give w, one number per image and concept token."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol

import torch

from .checks import quoted
from .errors import OptionError
from .statistics import Reading

LOWEST_SCALE = -20.0
DEFAULT_SCALE = -3.0


class ScaleRule(Protocol):
    """Gives w for the rows of a batch."""

    reading: Reading | None
    """What ``scales`` needs of the attention at t = T, which costs half a UNet evaluation per image; None: nothing."""

    def scales(self, inputs: torch.Tensor | None, rows: int, tokens: int) -> torch.Tensor:
        """w <= 0, float32 [rows, tokens]; ``inputs``: what was read, float32 [rows, inputs, tokens], or None."""
        ...

    def check_model(self, family: str, heads: Sequence[int]) -> None:
        """Raise AdapterError where the rule does not fit a model: its family, heads of each cross-attention layer."""
        ...


class FixedScale:
    """The same w for every image and token."""

    reading = None

    def __init__(self, value: float):
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
            raise OptionError(f"the scale is {quoted(value)}; it must be a number from {LOWEST_SCALE:g} to 0")
        if not LOWEST_SCALE <= value <= 0:
            raise OptionError(
                f"the scale is {value:g}; it must be from {LOWEST_SCALE:g} (strongest) to 0 (no erasure), "
                f"for example -3"
            )
        self.value = float(value)

    def scales(self, inputs: torch.Tensor | None, rows: int, tokens: int) -> torch.Tensor:
        """w, float32 [rows, tokens]."""
        return torch.full((rows, tokens), self.value)

    def check_model(self, family: str, heads: Sequence[int]) -> None:
        """Fits every UNet."""

    def __repr__(self) -> str:
        return f"FixedScale({self.value:g})"


class GivenScales:
    """A w for every image of one generation, in their order: for labelling and experiments.

    ``values``: float32 [images]. Use it for one generation only.
    """

    reading = None

    def __init__(self, values: torch.Tensor):
        low, high = float(values.min()), float(values.max())
        if not LOWEST_SCALE <= low <= high <= 0:  # NaN fails too
            raise OptionError(f"the scales are {low:g} to {high:g}; they must be from {LOWEST_SCALE:g} to 0")
        self.values = values.float()
        self._used = 0

    def scales(self, inputs: torch.Tensor | None, rows: int, tokens: int) -> torch.Tensor:
        """The next images' w, float32 [rows, tokens]."""
        given = self.values[self._used : self._used + rows]  # [rows]
        if len(given) != rows:
            raise OptionError(f"{len(self.values)} scales were given, for fewer images than there are")
        self._used += rows
        return given[:, None].expand(rows, tokens)  # [rows, n]

    def check_model(self, family: str, heads: Sequence[int]) -> None:
        """Fits every UNet."""
