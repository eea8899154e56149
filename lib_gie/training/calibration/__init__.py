"""Calibrates a concept on a checkpoint: how to tell its presence in a prompt, and the scale at which it is gone."""

from .calibrate import calibrate
from .counted import MOST_EVALUATIONS, CalibrationStoppedError

__all__ = ["MOST_EVALUATIONS", "CalibrationStoppedError", "calibrate"]
