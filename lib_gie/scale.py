"""How strongly a concept is suppressed: rules that give w, one number per image and concept token."""

from __future__ import annotations

import math
from typing import Protocol

import torch

from .errors import OptionError

LOWEST_SCALE = -20.0
DEFAULT_SCALE = -3.0


class ScaleRule(Protocol):
    """Gives w for the rows of a batch."""

    needs_means: bool
    """Whether ``scales`` looks at the first step's attention, which costs half a UNet evaluation per image."""

    def scales(self, means: torch.Tensor | None, rows: int, tokens: int) -> torch.Tensor:
        """w <= 0, float32 [rows, tokens]; ``means``: float32 [rows, layers, tokens] or None."""
        ...

    def check_layers(self, layers: int) -> None:
        """Raise AdapterError where the rule does not fit a UNet with so many cross-attention layers."""
        ...


class FixedScale:
    """The same w for every image and token."""

    needs_means = False

    def __init__(self, value: float):
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
            raise OptionError(f"the scale is {value!r}; it must be a number from {LOWEST_SCALE:g} to 0")
        if not LOWEST_SCALE <= value <= 0:
            raise OptionError(
                f"the scale is {value:g}; it must be from {LOWEST_SCALE:g} (strongest) to 0 (no erasure), "
                f"for example -3"
            )
        self.value = float(value)

    def scales(self, means: torch.Tensor | None, rows: int, tokens: int) -> torch.Tensor:
        """w, float32 [rows, tokens]."""
        return torch.full((rows, tokens), self.value)

    def check_layers(self, layers: int) -> None:
        """Fits every UNet."""

    def __repr__(self) -> str:
        return f"FixedScale({self.value:g})"
