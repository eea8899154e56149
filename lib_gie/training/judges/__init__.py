"""Judges say whether a concept shows in images. They are interchangeable; labels name the one they come from."""

from __future__ import annotations

from .base import Judge, Verdict, make_judge

__all__ = ["Judge", "Verdict", "make_judge"]
