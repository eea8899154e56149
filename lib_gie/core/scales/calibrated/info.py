"""A calibration's description, and how a file's metadata holds it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from lib_gie import __version__
from lib_gie.core.call import LATENT_CHANNELS
from lib_gie.core.recorder import Reading, count_cells
from lib_gie.core.scales.metadata import (
    MOST_READINGS,
    Reader,
    as_json,
    from_metadata,
    read_conditions,
    read_numbers,
    read_readings,
    read_texts,
    read_whole,
    to_metadata,
)
from lib_gie.errors import AdapterError
from lib_gie.options import LOWEST_SCALE

CALIBRATED = "calibrated"
"""The kind by which a file says that it is a calibration."""

_MOST_INPUTS = 2**15


@dataclass(frozen=True)
class CalibrationInfo:
    """A calibration's description, which its file keeps as metadata.

    ``base``: model family. ``weights``: digest of the checkpoint that it was made on; it is for no other. ``concepts``:
    the one that it is for. ``readings``: those of a prompt. ``inputs``: the number of inputs that they give together.
    ``strength``: w where the concept is present in full, below 0. ``ramp``: the score up to which it is not present at
    all, and the one from which it is present in full. ``tells_presence``: whether the score tells prompts that name the
    concept from others at all; where it does not, the concept counts as present in full in every prompt.
    ``training``: free-form figures of how it was made. ``conditions``: settings that it was made at ("clip_skip",
    "cfg"), as far as they are known.
    """

    base: str
    weights: str
    concepts: tuple[str, ...]
    readings: tuple[Reading, ...]
    inputs: int
    strength: float
    ramp: tuple[float, float]
    tells_presence: bool = True
    training: dict[str, Any] = field(default_factory=dict)
    conditions: dict[str, float] = field(default_factory=dict)
    created_by: str = f"lib_gie {__version__}"

    def __post_init__(self) -> None:
        if not LOWEST_SCALE <= self.strength < 0:
            raise AdapterError(f"the strength is {self.strength}; it must be a scale from {LOWEST_SCALE:g} to below 0")
        low, high = self.ramp
        if not (math.isfinite(low) and math.isfinite(high) and low < high):
            raise AdapterError(f"the ramp goes from {low} to {high}; it must rise, between finite scores")
        if not 1 <= self.inputs <= _MOST_INPUTS or not 1 <= len(self.readings) <= MOST_READINGS:
            raise AdapterError(
                f"the calibration has {self.inputs} inputs of {len(self.readings)} readings; expected 1 to "
                f"{_MOST_INPUTS} of 1 to {MOST_READINGS}"
            )
        if any(not one.predicted or not one.reads_prompt or one.size is None for one in self.readings):
            raise AdapterError(
                "the calibration has other readings than are known; each must be of what is predicted for noise of "
                "one size"
            )
        if self.inputs != sum(count_cells(one.size, LATENT_CHANNELS) for one in self.readings if one.size):
            raise AdapterError(
                f"the calibration's readings give another number of inputs than {self.inputs}; calibrate again"
            )
        if not self.base or not self.weights or len(self.base) > 100 or len(self.weights) > 100:
            raise AdapterError(
                "the calibration does not say which checkpoint it was made on (base, weights); calibrate again"
            )
        if len(self.concepts) != 1:
            raise AdapterError(f"the calibration is for {len(self.concepts)} concepts; there must be one")

    @property
    def label_range(self) -> tuple[float, float]:
        """Return the range of its scales."""
        return self.strength, 0.0

    @property
    def validation(self) -> dict[str, Any]:
        """Return figures of images: a calibration has none."""
        return {}

    @property
    def warning(self) -> str:
        """Return a text that tells users what could not be done for it, "" where all went well."""
        found = []
        if not self.tells_presence:
            found.append(
                f"it cannot be told on this model which prompts bring {self.concepts[0]!r} in, because the model does "
                f"not know the word, or nearly every prompt has it; so it is erased in full from every image"
            )
        shows = self.training.get("shows")
        if shows is False:
            found.append(f"the model sees no {self.concepts[0]!r} in images of it, so the strength was not checked")
        elif shows is True and self.training.get("seen_gone") is False:
            found.append(f"{self.concepts[0]!r} may still show at the strongest scale that was tried")
        return "; ".join(found)

    @property
    def size(self) -> tuple[int, int]:
        """Return height and width, in latents, that prompts are read at."""
        size = self.readings[0].size
        assert size is not None  # as __post_init__ sees to
        return size

    def to_metadata(self) -> dict[str, str]:
        """Return the texts that a safetensors file keeps."""
        return to_metadata(self, gie_kind=CALIBRATED)

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str], name: str) -> CalibrationInfo:
        """Return the description in a file's metadata. ``name``: the file's, for errors.

        Raises AdapterError where a field is missing, cannot be read or has no sensible value.
        """
        return from_metadata(cls, _READERS, metadata, name)


def _read_flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError("tells_presence is neither true nor false")
    return value


def _read_strength(value: Any) -> float:
    if type(value) not in (int, float):
        raise ValueError("strength is no number")
    return float(value)


_READERS: dict[str, Reader] = {
    "base": str,
    "weights": str,
    "created_by": str,
    "concepts": as_json(read_texts),
    "readings": as_json(read_readings),
    "inputs": as_json(read_whole),
    "strength": as_json(_read_strength),
    "ramp": as_json(read_numbers),
    "tells_presence": as_json(_read_flag),
    "training": as_json(dict),
    "conditions": as_json(read_conditions),
}
