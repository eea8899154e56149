"""An adapter's description, and how a file's metadata holds it."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from lib_gie import __version__
from lib_gie.checks import quoted
from lib_gie.core.recorder import PAPER, Reading
from lib_gie.errors import AdapterError

FORMAT = "1"
MAX_INPUTS = 4096
MAX_SIDE = 512
"""Greatest side that attention is read at, in latents: 4096 pixels."""

_MOST_CHARACTERS, _MOST_DEPTH, _MOST_DIGITS = 4000, 16, 18  # of what a file says about itself


@dataclass(frozen=True)
class AdapterInfo:
    """An adapter's description, which its file keeps as metadata.

    ``base``: model family it was trained on ("sd1", "sd2", "sdxl", "gie-demo"). ``inputs``: number of the MLP's inputs,
    as many as ``reading`` reads from that family's UNet. ``concepts``: those it was trained for. ``label_range``:
    (least, greatest) scale among its labels, both <= 0. ``training``, ``validation``: free-form figures.
    ``conditions``: settings of the images that it was fitted on ("clip_skip", "cfg"), as far as they are known.
    """

    base: str
    inputs: int
    concepts: tuple[str, ...]
    label_range: tuple[float, float]
    reading: Reading = PAPER
    training: dict[str, Any] = field(default_factory=dict)
    validation: dict[str, Any] = field(default_factory=dict)
    conditions: dict[str, float] = field(default_factory=dict)
    created_by: str = f"lib_gie {__version__}"

    def __post_init__(self) -> None:
        low, high = self.label_range
        if not (math.isfinite(low) and math.isfinite(high) and low <= high <= 0):
            raise AdapterError(
                f"the label range is {low} to {high}; it must be two finite scales, the smaller first, none above 0"
            )
        if not 1 <= self.inputs <= MAX_INPUTS:
            raise AdapterError(f"the adapter has {self.inputs} inputs; expected 1 to {MAX_INPUTS}")
        if not self.base or len(self.base) > 100:
            raise AdapterError("the adapter does not say which model family it was trained on (base)")
        if not self.concepts:
            raise AdapterError("the adapter does not say which concepts it was trained for")

    def to_metadata(self) -> dict[str, str]:
        """Return the texts that a safetensors file keeps: every field that is no text as JSON."""
        values = {name: value if isinstance(value, str) else json.dumps(value) for name, value in asdict(self).items()}
        return {"gie_format": FORMAT, **values}

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str], name: str) -> AdapterInfo:
        """Return the description in a file's metadata. ``name``: the file's, for errors.

        Raises AdapterError where a field is missing, cannot be read or has no sensible value.
        """
        if "gie_format" not in metadata:
            raise AdapterError(f"{name} has no growth-inhibitor metadata; it is no adapter, or one of another tool")
        if metadata["gie_format"] != FORMAT:
            raise AdapterError(
                f"{name} has format {quoted(metadata['gie_format'])}, this version reads {FORMAT!r}; update the "
                f"extension"
            )
        missing = [key for key in _READERS if key not in metadata and key not in _LATER]
        if missing:
            raise AdapterError(f"{name} lacks the metadata {', '.join(missing)}; it cannot be known what it is for")
        try:
            return cls(**{key: read(metadata[key]) for key, read in _READERS.items() if key in metadata})
        except AdapterError as error:
            raise AdapterError(f"{name}: {error}") from error
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise AdapterError(f"{name} has metadata that cannot be read ({quoted(str(error))})") from error


# -- values of metadata ------------------------------------------------


def _finite(text: str) -> float | None:
    """Return the number of a JSON text, None where no other JSON text could hold it."""
    value = float(text)
    return value if math.isfinite(value) else None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key is there twice")
    return found


def read_json(text: str) -> Any:
    """Return a JSON text's value, of which every part can be written out again. Raises ValueError, RecursionError.

    Numbers that are not finite, and whole ones of more than 18 digits, become None: no other program reads them.
    """
    value = json.loads(
        text,
        parse_float=_finite,
        parse_constant=lambda name: None,
        parse_int=lambda digits: int(digits) if len(digits) <= _MOST_DIGITS else None,
        object_pairs_hook=_once,
    )
    left = [(value, 0)]
    while left:
        part, depth = left.pop()
        if depth > _MOST_DEPTH:
            raise ValueError(f"it is nested more than {_MOST_DEPTH} deep")
        if isinstance(part, str):
            part.encode()  # half of a surrogate pair can be read and not written
        elif isinstance(part, dict):
            left += [(inner, depth + 1) for pair in part.items() for inner in pair]
        elif isinstance(part, list):
            left += [(inner, depth + 1) for inner in part]
    return value


def _reading(values: dict[str, Any]) -> Reading:
    per_head, noise = values["per_head"], values["noise"]
    if not isinstance(per_head, bool) or not (noise is None or (type(noise) is int and 0 <= noise < 2**63)):
        raise ValueError("reading is not what it should be")
    return Reading(per_head, noise, _size(values.get("size")))


def _size(value: Any) -> tuple[int, int] | None:
    """Return height and width that are read at, in latents, at most MAX_SIDE each."""
    if value is None:
        return None
    if not isinstance(value, list) or len(value) != 2 or not all(type(v) is int and 1 <= v <= MAX_SIDE for v in value):
        raise ValueError("the size is not what it should be")
    height, width = value
    return height, width


def _conditions(values: dict[str, Any]) -> dict[str, float]:
    """Return the named numbers and leave out all else."""
    return {
        str(name): value for name, value in dict(values).items() if type(value) in (int, float) and math.isfinite(value)
    }


def _whole(value: Any) -> int:
    if type(value) is not int:
        raise ValueError("inputs is no whole number")
    return value


def _texts(values: Any) -> tuple[str, ...]:
    if not isinstance(values, list) or not all(isinstance(value, str) and value.strip() for value in values):
        raise ValueError("concepts is no list of texts")
    if sum(map(len, values)) > _MOST_CHARACTERS:
        raise ValueError("concepts is too long")
    return tuple(values)


def _range_of_labels(values: Any) -> tuple[float, float]:
    if not isinstance(values, list) or not all(type(value) in (int, float) for value in values):
        raise ValueError("label_range is no list of numbers")
    low, high = map(float, values)
    return low, high


def _json(read: Callable[[Any], Any]) -> Callable[[str], Any]:
    return lambda text: read(read_json(text))


_READERS: dict[str, Callable[[str], Any]] = {
    "base": str,
    "created_by": str,
    "inputs": _json(_whole),
    "reading": _json(_reading),
    "concepts": _json(_texts),
    "label_range": _json(_range_of_labels),
    "training": _json(dict),
    "validation": _json(dict),
    "conditions": _json(_conditions),
}
_LATER = ("conditions",)  # files of earlier versions lack it
