"""Adapters as safetensors files. Whatever a file holds, reading it gives an adapter or an AdapterError."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from lib_gie.checks import quoted
from lib_gie.core.scales.calibrated import Calibration, CalibrationInfo, calibration_of, tensors_of
from lib_gie.core.scales.files import checked, loaded, metadata_in, read_file, refuse_other_contents, write_file
from lib_gie.core.scales.input_range import take_range
from lib_gie.core.scales.metadata import read_json
from lib_gie.errors import AdapterError

from .info import AdapterInfo
from .model import Adapter, filled

_CALIBRATION = "calibration"
"""Key of the metadata, and beginning of the tensors' names, of the calibration that an adapter's file may hold."""


def save_adapter(adapter: Adapter, path: Path) -> None:
    """Write an adapter as safetensors with its metadata."""
    known = {} if adapter.range is None else adapter.range.tensors()
    tensors = {key: value.detach().float().contiguous() for key, value in (adapter.state_dict() | known).items()}
    metadata, behind = adapter.info.to_metadata(), adapter.calibration
    if behind is not None:
        tensors |= {f"{_CALIBRATION}_{key}": value for key, value in tensors_of(behind).items()}
        metadata[_CALIBRATION] = json.dumps(behind.info.to_metadata())
    write_file(path, tensors, metadata)


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


def _take_calibration(
    tensors: dict[str, torch.Tensor], metadata: dict[str, str], of: AdapterInfo, name: str
) -> Calibration | None:
    """Take the calibration out of an adapter file's tensors. Return None where its metadata tells of none.

    Raises AdapterError for that of another model family or concept, and for one without the range of its inputs, which
    would have a say in prompts that it knows nothing of.
    """
    if _CALIBRATION not in metadata:
        return None
    said, whose = read_json(metadata[_CALIBRATION]), f"the calibration in {name}"
    if not isinstance(said, dict) or not all(isinstance(value, str) for value in said.values()):
        raise AdapterError(f"{name}: what it says of its calibration is no table of texts; the file is damaged")
    info = CalibrationInfo.from_metadata(said, whose)
    if (info.base, info.concepts) != (of.base, of.concepts):
        raise AdapterError(
            f"{whose} is for {', '.join(info.concepts)} on {info.base}, and the adapter for {', '.join(of.concepts)} "
            f"on {of.base}; both must be for the same"
        )
    prefix = f"{_CALIBRATION}_"
    own = {key.removeprefix(prefix): tensors.pop(key) for key in sorted(tensors) if key.startswith(prefix)}
    found = calibration_of(info, own, whose)
    if found.range is None:
        raise AdapterError(f"{whose} lacks the range of its inputs; the file is damaged")
    return found


def adapter_in(data: bytes, name: str) -> Adapter:
    """Return the adapter in a file's content.

    Raises AdapterError for pickles, broken or foreign files, wrong shapes and NaNs.
    """

    def read() -> Adapter:
        refuse_other_contents(data, name)
        metadata, tensors = metadata_in(data), loaded(data)
        adapter = Adapter(AdapterInfo.from_metadata(metadata, name))
        adapter.calibration = _take_calibration(tensors, metadata, adapter.info, name)
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
