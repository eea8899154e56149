"""Adapters as safetensors files. Whatever a file holds, reading it gives an adapter or an AdapterError."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from lib_gie.checks import quoted
from lib_gie.core.scales.files import checked, loaded, metadata_in, read_file, refuse_other_contents, write_file
from lib_gie.core.scales.input_range import take_range
from lib_gie.core.scales.metadata import read_json
from lib_gie.errors import AdapterError

from .info import AdapterInfo
from .model import Adapter, filled

_NARROW = "narrow"
"""Key of the metadata, and beginning of the tensors' names, of the narrow adapter that a file may hold."""


def save_adapter(adapter: Adapter, path: Path) -> None:
    """Write an adapter as safetensors with its metadata."""
    values, metadata, narrow = adapter.state_dict(), adapter.info.to_metadata(), adapter.narrow  # narrow's are in it
    if adapter.range is not None:
        values |= adapter.range.tensors()
    if narrow is not None:
        metadata[_NARROW] = json.dumps(narrow.info.to_metadata())
        if narrow.range is not None:
            values |= {f"{_NARROW}.{key}": value for key, value in narrow.range.tensors().items()}
    write_file(path, {key: value.detach().float().contiguous() for key, value in values.items()}, metadata)


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
            raise AdapterError(f"{name}: {key} holds numbers that are not finite; the file is damaged: get it again")
    if (tensors["input_std"].float() <= 0).any():
        raise AdapterError(f"{name}: input_std must be positive; the file is damaged: get it again")


def _take_narrow(
    tensors: dict[str, torch.Tensor], metadata: dict[str, str], of: AdapterInfo, name: str
) -> Adapter | None:
    """Take the narrow adapter out of an adapter file's tensors. Return None where its metadata tells of none.

    Raises AdapterError where it is for something else than the adapter with this description.
    """
    if _NARROW not in metadata:
        return None
    said, whose = read_json(metadata[_NARROW]), f"the narrow adapter in {name}"
    if not isinstance(said, dict) or not all(isinstance(value, str) for value in said.values()):
        raise AdapterError(
            f"{name}: what it says of its narrow adapter is no table of texts; the file is damaged: get it again"
        )
    info = AdapterInfo.from_metadata(said, whose)
    same = (info.base, info.concepts, info.reading) == (of.base, of.concepts, of.reading)
    same = same and (info.label_range, info.lift) == (of.label_range, of.lift)
    if not same or info.predicted or not of.predicted or info.inputs != of.attention_inputs:
        raise AdapterError(
            f"{whose} is not for the same concepts, model family and attention; the file is damaged: get it again"
        )
    prefix = f"{_NARROW}."
    own = {key.removeprefix(prefix): tensors.pop(key) for key in sorted(tensors) if key.startswith(prefix)}
    return _made(info, own, whose)


def _made(info: AdapterInfo, tensors: dict[str, torch.Tensor], name: str) -> Adapter:
    """Return the adapter of this description and these tensors. ``name``: their file's, for errors."""
    adapter = Adapter(info)
    adapter.range = take_range(tensors, info.inputs, name)
    check_tensors(tensors, adapter.state_dict(), name)
    return filled(adapter, tensors)


def adapter_in(data: bytes, name: str) -> Adapter:
    """Return the adapter in a file's content.

    Raises AdapterError for pickles, broken or foreign files, wrong shapes and NaNs.
    """

    def read() -> Adapter:
        refuse_other_contents(data, name)
        metadata, tensors = metadata_in(data), loaded(data)
        info = AdapterInfo.from_metadata(metadata, name)
        narrow = _take_narrow(tensors, metadata, info, name)
        adapter = _made(info, tensors, name)
        if narrow is not None and None in (adapter.range, narrow.range):
            raise AdapterError(
                f"{name} lacks the ranges that say which of its two adapters is asked; the file is damaged: get it "
                f"again"
            )
        adapter.narrow = narrow
        return adapter

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
