"""Files of fitted scales, which are safetensors with metadata: read with care, and never half written."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Callable
from pathlib import Path
from stat import S_ISREG
from typing import TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from lib_gie.checks import quoted
from lib_gie.errors import AdapterError

from .metadata import read_json

T = TypeVar("T")

MAX_FILE_BYTES = 4 * 2**20
"""An adapter has a few thousand parameters, and 200 prompts' readings take 1.6 MB; a larger file is something else."""

_MOST_HEADER = 2**18  # bytes


def write_file(path: Path, tensors: dict[str, torch.Tensor], metadata: dict[str, str]) -> None:
    """Write a file and the folders that it lies in. The same content always gives the same bytes.

    Nobody reads half of it. Raises OSError where it cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        unfinished.write_bytes(_ordered(save(tensors, metadata)))
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


def _ordered(data: bytes) -> bytes:
    """Return a safetensors file's content with the metadata in the order of their names; the library shuffles them."""
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    ordered = {**header, "__metadata__": dict(sorted(header.get("__metadata__", {}).items()))}
    text = json.dumps(ordered, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # the numbers that follow begin at a multiple of 8 bytes
    return struct.pack("<Q", len(text)) + text + data[8 + length :]


def _refuse_other_kinds(stat: os.stat_result, name: str) -> None:
    if not S_ISREG(stat.st_mode):
        raise AdapterError(
            f"there is no adapter file {name}: it is a folder, a device or a pipe; choose one of those listed, or a "
            f"fixed scale"
        )
    if stat.st_size > MAX_FILE_BYTES:
        raise AdapterError(
            f"{name} has {stat.st_size:,} bytes, and an adapter has at most {MAX_FILE_BYTES:,}, so this is another "
            f"kind of file; choose an adapter"
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
            f"there is no adapter file {path.name}; choose one of those that `python -m lib_gie adapters` lists"
        ) from error
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise AdapterError(
            f"{path.name} cannot be read ({getattr(error, 'strerror', None) or error}); choose another adapter"
        ) from error
    if len(data) > MAX_FILE_BYTES:
        raise AdapterError(f"{path.name} grows while it is read; an adapter has at most {MAX_FILE_BYTES:,} bytes")
    return data


def refuse_other_contents(data: bytes, name: str) -> None:
    """Raise AdapterError unless a file's content begins as a safetensors file does."""
    if len(data) > 8 and data[8:9] == b"{" and struct.unpack("<Q", data[:8])[0] <= min(_MOST_HEADER, len(data) - 8):
        return  # a safetensors file; its first bytes are a length, which can look like those of a pickle
    if data[:2] == b"PK" or data[:1] == b"\x80":
        raise AdapterError(
            f"{name} is a pickle, which can run any code when it is opened. Turn it into a safetensors file "
            f"with: python -m lib_gie convert {name}"
        )
    raise AdapterError(f"{name} is no safetensors file, or a broken one; get it again")


def metadata_in(data: bytes) -> dict[str, str]:
    """Return the texts in a safetensors file's header. Raises ValueError, RecursionError."""
    (length,) = struct.unpack("<Q", data[:8])
    header = read_json(data[8 : 8 + length].decode())
    metadata = header.get("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise ValueError("its metadata is no table of texts")
    return metadata


def checked(read: Callable[[], T], name: str) -> T:
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


def tensors_in(path: Path) -> dict[str, torch.Tensor]:
    """Return the tensors of a file. Raises AdapterError where there is none, or it cannot be read."""
    data = read_file(path)

    def read() -> dict[str, torch.Tensor]:
        refuse_other_contents(data, path.name)
        return loaded(data)

    return checked(read, path.name)


def loaded(data: bytes) -> dict[str, torch.Tensor]:
    """Return the tensors of a file's content, in memory of their own: those of older libraries lie in what was read."""
    return {name: value.clone() for name, value in load(data).items()}
