"""Calibrations: a concept's scale on one checkpoint, for which no image was labelled."""

from .discriminant import Discriminant, fit_discriminant, held_out_scores
from .files import (
    calibration_header,
    calibration_in,
    is_calibration,
    load_calibration,
    save_calibration,
)
from .info import CALIBRATED, CalibrationInfo
from .model import Calibration

__all__ = [
    "CALIBRATED",
    "Calibration",
    "CalibrationInfo",
    "Discriminant",
    "calibration_header",
    "calibration_in",
    "fit_discriminant",
    "held_out_scores",
    "is_calibration",
    "load_calibration",
    "save_calibration",
]
