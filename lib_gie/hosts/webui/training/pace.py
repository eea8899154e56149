"""How fast this machine was when it made images for a training. This file knows no host."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from lib_gie.json_lines import KeptResults

ASSUMED = 20.0
"""Evaluations of the UNet in a second that an estimate rests on where nothing was measured."""

ASSUMED_OF = "a middling graphics card with SD 1.5 at 512x512"


LEAST, MOST = 1e-6, 1e4
"""Seconds that one evaluation may have taken. Anything else is no measurement, but a damaged file or a wrong clock."""


class Setting(NamedTuple):
    """What the pace depends on most: the checkpoint's name, and an image's width and height in pixels."""

    checkpoint: str
    width: int
    height: int


def _read(entry: Any) -> tuple[Setting, float] | None:
    try:
        setting = Setting(str(entry["checkpoint"]), int(entry["width"]), int(entry["height"]))
        seconds = float(entry["seconds"])
    except (TypeError, ValueError, LookupError, OverflowError):
        return None
    return (setting, seconds) if LEAST <= seconds <= MOST else None


def _write(setting: Setting, seconds: float) -> dict[str, Any]:
    return {**setting._asdict(), "seconds": seconds}


class TimedTurns:
    """Turns of work, and the seconds that all of them have lasted. What comes before a turn is not counted."""

    def __init__(self, turn: Callable[[], AbstractContextManager[None]]):
        """``turn``: makes the context of one turn. Entering it may take long, as when others are waited for."""
        self._turn = turn
        self.seconds = 0.0

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """Take a turn."""
        with self._turn():
            begun = time.monotonic()
            try:
                yield
            finally:
                self.seconds += time.monotonic() - begun


class BatchTimer:
    """The ``images`` of batches and the ``seconds`` of their turns, without the first batch, which takes longer."""

    def __init__(self, turns: TimedTurns):
        """``turns``: those in which the batches are made and judged."""
        self.images, self.seconds = 0, 0.0
        self._turns, self._is_first = turns, True
        self.begin()

    def begin(self) -> None:
        """Begin to count here: what was done since the last batch is not part of the next one."""
        self._begun = self._turns.seconds

    def end_batch(self, images: int) -> None:
        """Count a batch that has just been made and judged. The next one begins here."""
        if not self._is_first:
            self.images += images
            self.seconds += self._turns.seconds - self._begun
        self._is_first = False
        self.begin()


class Paces:
    """The seconds of one evaluation, by setting, kept in a file. The last measurement of a setting counts."""

    def __init__(self, path: Path):
        """``path``: of the file, which is read when a pace is first asked for."""
        self._path = path
        self._kept: KeptResults[Setting, float] | None = None

    def of(self, setting: Setting) -> float | None:
        """Return the seconds of one evaluation, None where none was measured, or the file cannot be read."""
        try:
            return self._all().found.get(setting)
        except OSError:
            return None

    def note(self, setting: Setting, evaluations: int, seconds: float) -> None:
        """Keep how long so many evaluations have taken.

        Nothing is kept of times that cannot be (see LEAST, MOST), nor where the file cannot be written.
        """
        if evaluations <= 0 or not LEAST <= seconds / evaluations <= MOST:
            return
        try:
            self._all().add(setting, seconds / evaluations)
        except OSError:
            return

    def _all(self) -> KeptResults[Setting, float]:
        if self._kept is None:
            self._kept = KeptResults(self._path, self._path.name, read=_read, write=_write)
        return self._kept
