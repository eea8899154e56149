"""The tab's training: what the page shows of it and what the page tells it. ``training_run`` does the work."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from modules import shared

from lib_gie.checks import quoted
from lib_gie.core.concepts import Concept
from lib_gie.errors import OptionError
from lib_gie.hosts.webui.request.enforcement import enforced_adapters, enforced_keys
from lib_gie.hosts.webui.request.plans import adapter_folders
from lib_gie.training.judges import judge_class, setting_key

from .work_order import check_name

if TYPE_CHECKING:
    from pathlib import Path

    import torch
    from PIL import Image

    from .work_order import Order

    Picture = tuple[Image.Image, str]


def allowed_path(order: Order) -> Path:
    """Where the adapter goes. Raises OptionError where it may not be trained, or would take another's place."""
    if Concept(order.bare_concept).key in enforced_keys():
        raise OptionError(
            f"this WebUI erases {quoted(order.concept)} from every image, so there would be none with it to learn "
            f"from; its admin can train the adapter on a WebUI that does not"
        )
    return check_name(order, adapter_folders(), enforced_adapters())


@dataclass
class Progress:
    """What the page shows. ``state``: "idle", "running", "asking", "stopped", "failed" or "done"."""

    state: str = "idle"
    text: str = ""
    done: int = 0
    total: int = 0
    images: int = 0
    seconds: float = 0.0
    pictures: list[Picture] = field(default_factory=list)
    report: list[Picture] = field(default_factory=list)


class Trainer:
    """One training at a time; what was labelled stays on disk and is not made again."""

    def __init__(self):
        self.progress = Progress()
        self._stop = threading.Event()
        self._answer: int | None = None
        self._answered = threading.Event()
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    @property
    def running(self) -> bool:
        """Whether a training is under way."""
        return self._thread is not None and self._thread.is_alive()

    def start(self, order: Order) -> None:
        """Check the order and begin. Raises GieError for bad orders, OptionError where one is under way."""
        with self._lock:
            if self.running:
                raise OptionError("a training is under way; interrupt it first, or wait")
            from .run import prepare  # not before it is needed: the WebUI's start is not to wait for it

            run = prepare(self, order, **self._settings(order.judge))
            self._stop.clear()
            self.progress = Progress("running", "labelling", run.labelling.done, len(run.labelling.searches))
            self._thread = threading.Thread(target=run.safely, name="gie-training", daemon=True)
            self._thread.start()

    def _settings(self, judge: str) -> dict:
        kind = judge_class(judge)
        if kind.asks_person:
            return {"ask": self._ask}
        return {setting.name: getattr(shared.opts, setting_key(judge, setting), "") for setting in kind.settings}

    def _ask(self, images: torch.Tensor, prompt: str, concept: str) -> int:
        """Show the row and wait until someone clicks on one of its images (see ``hand_judge.Ask``)."""
        from lib_gie.pictures import picture

        from .image_maker import BatchStoppedError

        progress = self.progress
        self._answer, progress.pictures = None, [(picture(image), prompt) for image in images]
        self._answered.clear()
        progress.state = "asking"
        progress.text = f"{prompt}: click on the first image that does not show {concept}"
        while not self._answered.wait(0.2):
            if self.stopping:
                raise BatchStoppedError("labelling by hand was stopped")
        progress.state, progress.text = "running", "labelling"
        return self._answer

    def answer(self, number: int | None) -> None:
        """The image that was clicked on; None: all show it. Counts only while there is a question.

        Raises OptionError for the number of no image: whoever knows the address can send any.
        """
        if self.progress.state == "asking" and not self._answered.is_set():
            count = len(self.progress.pictures)
            if number is not None and not (type(number) is int and 0 <= number < count):
                raise OptionError(f"the answer is {quoted(number)}; there are the images 0 to {count - 1}")
            self._answer = count if number is None else number
            self._answered.set()

    def stop(self) -> None:
        """Interrupt after the batch that is being made; the same order goes on from there."""
        self._stop.set()

    @property
    def stopping(self) -> bool:
        """Whether it was told to stop."""
        return self._stop.is_set()
