"""Adapters as safetensors files. Whatever a file holds, reading it gives an adapter or an AdapterError."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from stat import S_ISREG
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save_file

from lib_gie.checks import quoted
from lib_gie.errors import AdapterError

from .info import AdapterInfo, read_json
from .input_range import DIRECTIONS, NAMES, PREFIX, InputRange
from .model import Adapter, filled

T = TypeVar("T")

MAX_FILE_BYTES = 4 * 2**20
"""An adapter has a few thousand parameters; a larger file is something else."""

_MOST_HEADER = 2**18  # bytes


def save_adapter(adapter: Adapter, path: Path) -> None:
    """Write an adapter as safetensors with its metadata."""
    known = {} if adapter.range is None else adapter.range.tensors()
    tensors = {key: value.detach().float().contiguous() for key, value in (adapter.state_dict() | known).items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.part")  # nobody reads half a file
    try:
        save_file(tensors, unfinished, metadata=adapter.info.to_metadata())
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


def add_validation(path: Path, **figures: Any) -> None:
    """Add figures to the validation in an adapter file's metadata. The weights stay as they are."""
    adapter = load_adapter(path)
    adapter.info = replace(adapter.info, validation={**adapter.info.validation, **figures})
    save_adapter(adapter, path)


def _refuse_other_kinds(stat: os.stat_result, name: str) -> None:
    if not S_ISREG(stat.st_mode):
        raise AdapterError(
            f"there is no adapter file {name}: it is a folder, a device or a pipe; choose one of those listed, or a "
            f"fixed scale"
        )
    if stat.st_size > MAX_FILE_BYTES:
        raise AdapterError(
            f"{name} has {stat.st_size:,} bytes; an adapter has at most {MAX_FILE_BYTES:,}. This is another kind of "
            f"file"
        )


def read_file(path: Path | str) -> bytes:
    """Return the content of an adapter's file. Raises AdapterError unless it is a regular file of an adapter's size.

    Links are followed. A device or pipe is not opened: opening one can wait for ever, or set something off.
    """
    path = Path(path)
    try:
        _refuse_other_kinds(path.stat(), path.name)
        # another file may lie there by now: open it without waiting, and look at it again
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        with open(descriptor, "rb") as file:
            _refuse_other_kinds(os.fstat(descriptor), path.name)
            data = file.read(MAX_FILE_BYTES + 1)
    except AdapterError:
        raise
    except FileNotFoundError as error:
        raise AdapterError(
            f"there is no adapter file {path.name}; `python -m lib_gie adapters` lists those of models/"
        ) from error
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise AdapterError(
            f"{path.name} cannot be read ({getattr(error, 'strerror', None) or error}); choose another adapter"
        ) from error
    if len(data) > MAX_FILE_BYTES:
        raise AdapterError(f"{path.name} grows while it is read; an adapter has at most {MAX_FILE_BYTES:,} bytes")
    return data


def _refuse_other_contents(data: bytes, name: str) -> None:
    if len(data) > 8 and data[8:9] == b"{" and struct.unpack("<Q", data[:8])[0] <= min(_MOST_HEADER, len(data) - 8):
        return  # a safetensors file; its first bytes are a length, which can look like those of a pickle
    if data[:2] == b"PK" or data[:1] == b"\x80":
        raise AdapterError(
            f"{name} is a pickle, which can run any code when it is opened. Turn it into a safetensors file "
            f"with: python -m lib_gie convert {name}"
        )
    raise AdapterError(f"{name} is no safetensors file, or a broken one; get it again")


def _metadata(data: bytes) -> dict[str, str]:
    """Return the texts in a safetensors file's header. Raises ValueError, RecursionError."""
    (length,) = struct.unpack("<Q", data[:8])
    header = read_json(data[8 : 8 + length].decode())
    metadata = header.get("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise ValueError("its metadata is no table of texts")
    return metadata


def check_tensors(tensors: dict[str, torch.Tensor], expected: dict[str, torch.Tensor], name: str) -> None:
    """Raise AdapterError unless a file has the expected tensors' names and shapes, and finite numbers."""
    if tensors.keys() != expected.keys():
        found = quoted(", ".join(sorted(tensors)))
        raise AdapterError(f"{name} holds the tensors {found}; expected {', '.join(sorted(expected))}")
    for key, value in tensors.items():
        if value.shape != expected[key].shape:
            raise AdapterError(
                f"{name}: {key} has shape {list(value.shape)}, expected {list(expected[key].shape)} for its number "
                f"of inputs"
            )
        if not value.dtype.is_floating_point or not torch.isfinite(value.float()).all():
            raise AdapterError(f"{name}: {key} holds numbers that are not finite; the file is damaged")
    if (tensors["input_std"].float() <= 0).any():
        raise AdapterError(f"{name}: input_std must be positive; the file is damaged")


def _take_range(tensors: dict[str, torch.Tensor], inputs: int, name: str) -> InputRange | None:
    """Take the range of the inputs out of a file's tensors. Return None where there is none."""
    found = {key.removeprefix(PREFIX): tensors.pop(key).float() for key in sorted(NAMES & tensors.keys())}
    if not found:
        return None
    count = len(found["directions"]) if "directions" in found and found["directions"].ndim else 0
    expected = {
        "mean": (inputs,), "spread": (inputs,), "directions": (count, inputs), "variances": (count + 1,), "bound": (1,)
    }  # fmt: skip
    shapes = {key: tuple(value.shape) for key, value in found.items()}
    if shapes != expected or not 1 <= count <= DIRECTIONS:
        raise AdapterError(f"{name}: the range of its inputs has the shapes {shapes}, expected {expected}")
    if not all(torch.isfinite(value).all() for value in found.values()):
        raise AdapterError(f"{name}: the range of its inputs holds numbers that are not finite; the file is damaged")
    if min(found[part].min() for part in ("spread", "variances", "bound")) <= 0:
        raise AdapterError(f"{name}: spreads in the range of its inputs must be positive; the file is damaged")
    return InputRange(**found)


def _checked(read: Callable[[], T], name: str) -> T:
    """Return what ``read`` returns. Whatever goes wrong is an AdapterError: a file can hold anything."""
    try:
        return read()
    except AdapterError:
        raise
    except SafetensorError as error:
        raise AdapterError(f"{name} is a broken safetensors file ({quoted(str(error))}); get it again") from error
    except (UnicodeDecodeError, RecursionError, ValueError) as error:
        raise AdapterError(f"{name} is a broken safetensors file ({type(error).__name__}); get it again") from error
    except Exception as error:
        raise AdapterError(f"{name} cannot be read ({type(error).__name__}); get it again") from error


def adapter_in(data: bytes, name: str) -> Adapter:
    """Return the adapter in a file's content.

    Raises AdapterError for pickles, broken or foreign files, wrong shapes and NaNs.
    """

    def read() -> Adapter:
        _refuse_other_contents(data, name)
        adapter = Adapter(AdapterInfo.from_metadata(_metadata(data), name))
        tensors = load(data)
        adapter.range = _take_range(tensors, adapter.info.inputs, name)
        check_tensors(tensors, adapter.state_dict(), name)
        return filled(adapter, tensors)

    return _checked(read, name)


def header_in(data: bytes, name: str) -> AdapterInfo:
    """Return the description in a file's content, its weights unread. Raises AdapterError where that is no adapter."""

    def read() -> AdapterInfo:
        _refuse_other_contents(data, name)
        return AdapterInfo.from_metadata(_metadata(data), name)

    return _checked(read, name)


def load_adapter(path: Path | str) -> Adapter:
    """Read an adapter. Raises AdapterError for pickles, large, broken or foreign files, wrong shapes and NaNs."""
    return adapter_in(read_file(path), Path(path).name)


def read_header(path: Path | str) -> AdapterInfo:
    """Read an adapter's description, its weights unread. Raises AdapterError for files that are no adapter."""
    return header_in(read_file(path), Path(path).name)
