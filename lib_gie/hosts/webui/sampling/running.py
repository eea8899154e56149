"""Which generations run. It loads nothing of what they need, because the WebUI's start does not make images."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

_running = threading.local()


def stack() -> list[Any]:
    """The generations that run in this thread, nested ones last: each an ``erased_generation.Generation``."""
    if not hasattr(_running, "stack"):
        _running.stack = []
    generations: list[Any] = _running.stack
    return generations


def entered() -> list[Any]:
    """The processing objects that have come to the guard in this thread and are worked on, nested ones last.

    Those are among them from which nothing is to be erased.
    """
    if not hasattr(_running, "entered"):
        _running.entered = []
    objects: list[Any] = _running.entered
    return objects


def keep_refusal(undo: Callable[[], None]) -> None:
    """Keep what takes the refusal off that the next UNet call of this thread is to raise. The one before comes off."""
    take_refusal_off()
    _running.undo = undo


def take_refusal_off() -> None:
    """Take off what no UNet call has raised: it must not meet somebody else's images."""
    vars(_running).pop("undo", lambda: None)()
