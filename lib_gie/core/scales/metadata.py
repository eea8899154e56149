"""Metadata of fitted scales' files: texts, of which those that are no plain text are JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict
from typing import Any, TypeVar

from lib_gie.checks import quoted
from lib_gie.core.call import LAST_TIMESTEP
from lib_gie.core.recorder import Reading
from lib_gie.errors import AdapterError

T = TypeVar("T")
Reader = Callable[[str], Any]
"""Returns the value of a metadata's text. Raises AdapterError, ValueError, TypeError, KeyError or RecursionError."""

FORMAT = "1"
MAX_SIDE = 512
"""Greatest side that attention is read at, in latents: 4096 pixels."""

MOST_READINGS = 8
"""The most readings of what is predicted that one file can ask for."""

_MOST_CHARACTERS, _MOST_DEPTH, _MOST_DIGITS = 4000, 16, 18  # of what a file says about itself


def to_metadata(info: Any, **more: str) -> dict[str, str]:
    """Return the texts that a safetensors file keeps of a dataclass: every field that is no text as JSON."""
    values = {name: value if isinstance(value, str) else json.dumps(value) for name, value in asdict(info).items()}
    return {"gie_format": FORMAT, **more, **values}


def from_metadata(
    make: Callable[..., T],
    readers: Mapping[str, Reader],
    metadata: Mapping[str, str],
    name: str,
    later: Collection[str] = (),
) -> T:
    """Return what ``make`` makes of the fields in a file's metadata. ``name``: the file's, for errors.

    ``readers``: one for each field. ``later``: fields that files of earlier versions lack. Raises AdapterError where
    a field is missing, cannot be read or has no sensible value.
    """
    if "gie_format" not in metadata:
        raise AdapterError(
            f"{name} has no metadata of growth inhibitors, so it is no adapter of this project; choose another file"
        )
    if metadata["gie_format"] != FORMAT:
        raise AdapterError(
            f"{name} has format {quoted(metadata['gie_format'])}, this version reads {FORMAT!r}; update the extension"
        )
    missing = [key for key in readers if key not in metadata and key not in later]
    if missing:
        raise AdapterError(
            f"{name} lacks the metadata {', '.join(missing)}, so it is unknown what it is for; get it again"
        )
    try:
        return make(**{key: read(metadata[key]) for key, read in readers.items() if key in metadata})
    except AdapterError as error:
        raise AdapterError(f"{name}: {error}") from error
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise AdapterError(f"{name} has metadata that cannot be read ({quoted(str(error))}); get it again") from error


def as_json(read: Callable[[Any], Any]) -> Reader:
    """Return the reader of a JSON text, whose value is given to ``read``."""
    return lambda text: read(read_json(text))


# -- JSON ------------------------------------------------


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


# -- values ------------------------------------------------


def read_reading(values: dict[str, Any]) -> Reading:
    """Return a reading; files of earlier versions do not tell its timestep, which is the last one."""
    per_head, noise, timestep = values["per_head"], values["noise"], values.get("timestep", LAST_TIMESTEP)
    if not isinstance(per_head, bool) or not (noise is None or (type(noise) is int and 0 <= noise < 2**63)):
        raise ValueError("reading is not what it should be")
    if type(timestep) is not int or not 0 <= timestep <= LAST_TIMESTEP:
        raise ValueError("its timestep is not what it should be")
    if not isinstance(values.get("predicted", False), bool):
        raise ValueError("it does not say what is read")
    return Reading(per_head, noise, _size(values.get("size")), timestep, values.get("predicted", False))


def read_readings(values: Any) -> tuple[Reading, ...]:
    """Return readings."""
    if not isinstance(values, list):
        raise ValueError("the readings are no list")
    return tuple(read_reading(value) for value in values)


def _size(value: Any) -> tuple[int, int] | None:
    """Return height and width that are read at, in latents, at most MAX_SIDE each."""
    if value is None:
        return None
    if not isinstance(value, list) or len(value) != 2 or not all(type(v) is int and 1 <= v <= MAX_SIDE for v in value):
        raise ValueError("the size is not what it should be")
    height, width = value
    return height, width


def read_conditions(values: dict[str, Any]) -> dict[str, float]:
    """Return the named numbers and leave out all else."""
    return {
        str(name): value for name, value in dict(values).items() if type(value) in (int, float) and math.isfinite(value)
    }


def read_whole(value: Any) -> int:
    """Return a whole number."""
    if type(value) is not int:
        raise ValueError("it is no whole number")
    return value


def read_texts(values: Any) -> tuple[str, ...]:
    """Return texts, none of them empty."""
    if not isinstance(values, list) or not all(isinstance(value, str) and value.strip() for value in values):
        raise ValueError("it is no list of texts")
    if sum(map(len, values)) > _MOST_CHARACTERS:
        raise ValueError("the texts are too long")
    return tuple(values)


def read_numbers(values: Any) -> tuple[float, float]:
    """Return two numbers."""
    if not isinstance(values, list) or len(values) != 2 or not all(type(value) in (int, float) for value in values):
        raise ValueError("it is no list of two numbers")
    low, high = map(float, values)
    return low, high
