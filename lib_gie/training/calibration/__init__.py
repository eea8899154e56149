"""Calibrates a concept on a checkpoint: how present it is in a prompt, and the scale that it takes to be gone."""

from .calibrate import calibrate
from .counted import MOST_EVALUATIONS, CalibrationStoppedError

__all__ = ["MOST_EVALUATIONS", "CalibrationStoppedError", "calibrate"]
