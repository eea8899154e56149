"""Calibrations as safetensors files. Whatever a file holds, reading it gives a calibration or an AdapterError."""

from __future__ import annotations

from pathlib import Path

import torch

from lib_gie.checks import quoted
from lib_gie.core.scales.files import checked, loaded, metadata_in, read_file, refuse_other_contents, write_file
from lib_gie.core.scales.input_range import take_range
from lib_gie.errors import AdapterError

from .discriminant import Discriminant
from .info import CALIBRATED, CalibrationInfo
from .model import Calibration

_NAMES = ("mean", "spread", "direction")


def save_calibration(calibration: Calibration, path: Path) -> None:
    """Write a calibration as safetensors with its metadata."""
    known = {} if calibration.range is None else calibration.range.tensors()
    tensors = {key: value.float().contiguous() for key, value in (calibration.discriminant.tensors() | known).items()}
    write_file(path, tensors, calibration.info.to_metadata())


def is_calibration(data: bytes, name: str) -> bool:
    """Tell whether a file's content says that it is a calibration. Raises AdapterError for broken files."""

    def read() -> bool:
        refuse_other_contents(data, name)
        return metadata_in(data).get("gie_kind") == CALIBRATED

    return checked(read, name)


def calibration_in(data: bytes, name: str) -> Calibration:
    """Return the calibration in a file's content.

    Raises AdapterError for pickles, broken or foreign files, wrong shapes and NaNs.
    """

    def read() -> Calibration:
        refuse_other_contents(data, name)
        return _made(CalibrationInfo.from_metadata(metadata_in(data), name), loaded(data), name)

    return checked(read, name)


def _made(info: CalibrationInfo, tensors: dict[str, torch.Tensor], name: str) -> Calibration:
    """Return the calibration of this description and these tensors. ``name``: their file's, for errors."""
    known = take_range(tensors, info.inputs, name)
    if sorted(tensors) != sorted(_NAMES):
        found = quoted(", ".join(sorted(tensors)))
        raise AdapterError(f"{name} holds the tensors {found}; expected {', '.join(sorted(_NAMES))}")
    for key, value in tensors.items():
        if value.shape != (info.inputs,):
            raise AdapterError(f"{name}: {key} has shape {list(value.shape)}, expected [{info.inputs}]")
        if not value.dtype.is_floating_point or not torch.isfinite(value.float()).all():
            raise AdapterError(f"{name}: {key} holds numbers that are not finite; the file is damaged: calibrate again")
    if (tensors["spread"].float() <= 0).any():
        raise AdapterError(f"{name}: spread must be positive; the file is damaged: calibrate again")
    return Calibration(info, Discriminant(**{key: value.float() for key, value in tensors.items()}), known)


def calibration_header(data: bytes, name: str) -> CalibrationInfo:
    """Return the description in a file's content. Raises AdapterError where that is no calibration."""

    def read() -> CalibrationInfo:
        refuse_other_contents(data, name)
        return CalibrationInfo.from_metadata(metadata_in(data), name)

    return checked(read, name)


def load_calibration(path: Path | str) -> Calibration:
    """Read a calibration. Raises AdapterError for pickles, large, broken or foreign files, wrong shapes and NaNs."""
    return calibration_in(read_file(path), Path(path).name)
