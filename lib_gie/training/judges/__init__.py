"""Judges say whether a concept shows in images. They are interchangeable; labels name the one they come from."""

from .base import (
    DEFAULT_JUDGE,
    JUDGES,
    Judge,
    Setting,
    Verdict,
    available_judges,
    check_judge,
    judge_class,
    make_judge,
    setting_key,
    usual_judge,
)
from .trial import Trial

__all__ = [
    "DEFAULT_JUDGE",
    "JUDGES",
    "Judge",
    "Setting",
    "Trial",
    "Verdict",
    "available_judges",
    "check_judge",
    "judge_class",
    "make_judge",
    "setting_key",
    "usual_judge",
]
