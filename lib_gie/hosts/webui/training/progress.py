"""The progress of a training that runs in a thread, as the page reads it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from PIL import Image

from lib_gie.errors import ErasureError

Captioned = tuple[Image.Image, str]
"""A picture and the text under it, as the page's galleries take them."""

PARTS = ("judge", "calibration", "labels", "fit")
"""The parts of a training, one after the other."""

_TELLING = 0.05  # the share of a stage from which on its pace says something


class BatchStoppedError(ErasureError):
    """The user stopped what runs in the WebUI; the batch is to be made again."""


@dataclass
class Stage:
    """One stage of a training, such as the calibration.

    ``text``: what is done, such as "calibrating knife". ``unit``: what is counted, such as "labels". ``done`` of
    ``total`` are there, of which ``found`` were there when it began. ``most``: the greatest total that this stage
    may still grow to. ``part``: the one of PARTS that it belongs to; "": none.
    """

    text: str
    unit: str = ""
    total: int = 0
    done: int = 0
    found: int = 0
    most: int = 0
    begun: float = field(default_factory=time.monotonic)
    part: str = ""

    @property
    def share(self) -> float:
        """What is done, 0 to 1."""
        return min(1.0, self.done / self.total) if self.total else 0.0

    @property
    def seconds_each(self) -> float | None:
        """How many seconds one of them takes; None while too little is done to tell."""
        made = self.done - self.found
        if made <= 0 or made < _TELLING * (self.total - self.found):
            return None
        return (time.monotonic() - self.begun) / made


@dataclass
class Progress:
    """One training's progress.

    ``state``: "idle", "running", "asking", "warned", "stopped", "failed" or "done"; "warned": it stopped because
    something is doubtful, and goes on if it is started again. ``text``: what is to be said. ``verdict``: the first
    sentence of the report. ``parts``: those of PARTS that it has. ``pictures``: the latest of the ``images`` that were
    made, or those that a person is asked about.
    """

    state: str = "idle"
    text: str = ""
    verdict: str = ""
    stage: Stage | None = None
    images: int = 0
    parts: Sequence[str] = PARTS
    pictures: list[Captioned] = field(default_factory=list)
    report: list[Captioned] = field(default_factory=list)
