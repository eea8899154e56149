"""An adapter's description, and how a file's metadata holds it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from lib_gie import __version__
from lib_gie.core.call import LATENT_CHANNELS
from lib_gie.core.recorder import PAPER, Reading, count_cells
from lib_gie.core.scales.metadata import (
    MOST_READINGS,
    Reader,
    as_json,
    from_metadata,
    read_conditions,
    read_numbers,
    read_reading,
    read_readings,
    read_texts,
    read_whole,
    to_metadata,
)
from lib_gie.errors import AdapterError

MAX_INPUTS = 4096
MAX_LIFT = 10.0


@dataclass(frozen=True)
class AdapterInfo:
    """An adapter's description, which its file keeps as metadata.

    ``base``: model family it was trained on ("sd1", "sd2", "sdxl", "gie-demo"). ``inputs``: number of the MLP's inputs:
    first as many as ``reading`` reads of the attention in that family's UNet, then those of ``predicted``.
    ``concepts``: those it was trained for. ``label_range``: (least, greatest) scale among its labels, both <= 0.
    ``predicted``: readings of what the UNet predicts under the prompt, beside the attention; () in the paper.
    ``lift``: a factor and a scale. Answers between 0 and that scale are multiplied by the factor, up to the scale: half
    of a scale that erases mostly erases nothing. (1, 0) lifts nothing, as in the paper.
    ``training``, ``validation``: free-form figures. ``conditions``: settings of the images that it was fitted on
    ("clip_skip", "cfg"), as far as they are known.
    """

    base: str
    inputs: int
    concepts: tuple[str, ...]
    label_range: tuple[float, float]
    reading: Reading = PAPER
    training: dict[str, Any] = field(default_factory=dict)
    validation: dict[str, Any] = field(default_factory=dict)
    conditions: dict[str, float] = field(default_factory=dict)
    predicted: tuple[Reading, ...] = ()
    lift: tuple[float, float] = (1.0, 0.0)
    created_by: str = f"lib_gie {__version__}"

    def __post_init__(self) -> None:
        low, high = self.label_range
        if not (math.isfinite(low) and math.isfinite(high) and low <= high <= 0):
            raise AdapterError(
                f"the label range is {low} to {high}; it must be two finite scales, the smaller first, none above 0"
            )
        factor, full = self.lift
        if not (1 <= factor <= MAX_LIFT and low <= full <= 0):
            raise AdapterError(
                f"the adapter lifts its answers by {factor} up to the scale {full}; it must be a factor from 1 to "
                f"{MAX_LIFT:g} and a scale within its label range: get it again, or train it anew"
            )
        if not 1 <= self.inputs <= MAX_INPUTS:
            raise AdapterError(f"the adapter has {self.inputs} inputs; expected 1 to {MAX_INPUTS}")
        if not self.base or len(self.base) > 100:
            raise AdapterError(
                "the adapter does not say which model family it was trained on (base); get it again, or train it anew"
            )
        if self.reading.predicted:
            raise AdapterError(
                "the adapter says that it reads predicted noise alone; adapters read attention, so get it again"
            )
        if len(self.predicted) > MOST_READINGS or not all(one.reads_alone for one in self.predicted):
            raise AdapterError(
                f"the adapter has other readings beside the attention than are known; there may be at most "
                f"{MOST_READINGS}, each of what is predicted for noise of one size"
            )
        if self.attention_inputs < 1:
            raise AdapterError(
                f"of the adapter's {self.inputs} inputs none is left for the attention; get the file again"
            )
        if not self.concepts:
            raise AdapterError(
                "the adapter does not say which concepts it was trained for; get it again, or train it anew"
            )

    @property
    def attention_inputs(self) -> int:
        """Return the number of inputs that are read of the attention."""
        return self.inputs - sum(count_cells(one.size, LATENT_CHANNELS) for one in self.predicted if one.size)

    def to_metadata(self) -> dict[str, str]:
        """Return the texts that a safetensors file keeps."""
        return to_metadata(self)

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str], name: str) -> AdapterInfo:
        """Return the description in a file's metadata. ``name``: the file's, for errors.

        Raises AdapterError where a field is missing, cannot be read or has no sensible value.
        """
        return from_metadata(cls, _READERS, metadata, name, later=("conditions", "predicted", "lift"))


_READERS: dict[str, Reader] = {
    "base": str,
    "created_by": str,
    "inputs": as_json(read_whole),
    "reading": as_json(read_reading),
    "predicted": as_json(read_readings),
    "concepts": as_json(read_texts),
    "label_range": as_json(read_numbers),
    "lift": as_json(read_numbers),
    "training": as_json(dict),
    "validation": as_json(dict),
    "conditions": as_json(read_conditions),
}
