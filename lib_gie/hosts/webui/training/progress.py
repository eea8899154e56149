"""The progress of a training that runs in a thread, as the page reads it."""

from __future__ import annotations

from dataclasses import dataclass, field

from PIL import Image

from lib_gie.errors import ErasureError

Captioned = tuple[Image.Image, str]
"""A picture and the text under it, as the page's galleries take them."""


class BatchStoppedError(ErasureError):
    """The user stopped what runs in the WebUI; the batch is to be made again."""


@dataclass
class Progress:
    """One training's progress. ``state``: "idle", "running", "asking", "stopped", "failed" or "done".

    ``done``, ``total``: labels. ``images``: how many were made, in ``seconds``. ``pictures``: the latest of them, or
    those that a person is asked about. ``evaluations``, ``expected``: of the UNet, while the concept is calibrated; 0
    are expected at other times.
    """

    state: str = "idle"
    text: str = ""
    done: int = 0
    total: int = 0
    images: int = 0
    seconds: float = 0.0
    evaluations: int = 0
    expected: int = 0
    pictures: list[Captioned] = field(default_factory=list)
    report: list[Captioned] = field(default_factory=list)
