"""Adapters as safetensors files. Whatever a file holds, reading it gives an adapter or an AdapterError."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from lib_gie.checks import quoted
from lib_gie.core.scales.files import checked, loaded, metadata_in, read_file, refuse_other_contents, write_file
from lib_gie.errors import AdapterError

from .info import AdapterInfo
from .input_range import DIRECTIONS, NAMES, PREFIX, InputRange
from .model import Adapter, filled


def save_adapter(adapter: Adapter, path: Path) -> None:
    """Write an adapter as safetensors with its metadata."""
    known = {} if adapter.range is None else adapter.range.tensors()
    tensors = {key: value.detach().float().contiguous() for key, value in (adapter.state_dict() | known).items()}
    write_file(path, tensors, adapter.info.to_metadata())


def add_validation(path: Path, **figures: Any) -> None:
    """Add figures to the validation in an adapter file's metadata. The weights stay as they are."""
    adapter = load_adapter(path)
    adapter.info = replace(adapter.info, validation={**adapter.info.validation, **figures})
    save_adapter(adapter, path)


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


def take_range(tensors: dict[str, torch.Tensor], inputs: int, name: str) -> InputRange | None:
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


def adapter_in(data: bytes, name: str) -> Adapter:
    """Return the adapter in a file's content.

    Raises AdapterError for pickles, broken or foreign files, wrong shapes and NaNs.
    """

    def read() -> Adapter:
        refuse_other_contents(data, name)
        adapter = Adapter(AdapterInfo.from_metadata(metadata_in(data), name))
        tensors = loaded(data)
        adapter.range = take_range(tensors, adapter.info.inputs, name)
        check_tensors(tensors, adapter.state_dict(), name)
        return filled(adapter, tensors)

    return checked(read, name)


def header_in(data: bytes, name: str) -> AdapterInfo:
    """Return the description in a file's content, its weights unread. Raises AdapterError where that is no adapter."""

    def read() -> AdapterInfo:
        refuse_other_contents(data, name)
        return AdapterInfo.from_metadata(metadata_in(data), name)

    return checked(read, name)


def load_adapter(path: Path | str) -> Adapter:
    """Read an adapter. Raises AdapterError for pickles, large, broken or foreign files, wrong shapes and NaNs."""
    return adapter_in(read_file(path), Path(path).name)


def read_header(path: Path | str) -> AdapterInfo:
    """Read an adapter's description, its weights unread. Raises AdapterError for files that are no adapter."""
    return header_in(read_file(path), Path(path).name)
