"""Files of fitted scales of either kind, adapters and calibrations."""

from __future__ import annotations

from pathlib import Path

from .adapter import adapter_in, header_in
from .calibrated import calibration_header, calibration_in, is_calibration
from .files import read_file
from .fitted import Fitted, FittedInfo


def fitted_in(data: bytes, name: str) -> Fitted:
    """Return the adapter or calibration in a file's content. Raises AdapterError as ``adapter_in`` does."""
    return calibration_in(data, name) if is_calibration(data, name) else adapter_in(data, name)


def fitted_header(data: bytes, name: str) -> FittedInfo:
    """Return the description in a file's content, its tensors unread. Raises AdapterError where it is neither."""
    return calibration_header(data, name) if is_calibration(data, name) else header_in(data, name)


def load_fitted(path: Path | str) -> Fitted:
    """Read an adapter or a calibration. Raises AdapterError for anything else."""
    return fitted_in(read_file(path), Path(path).name)
