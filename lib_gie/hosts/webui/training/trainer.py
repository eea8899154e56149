"""The training that the tab's buttons start, stop and answer. ``run`` does the work, in a thread."""

from __future__ import annotations

import dataclasses
import threading
from typing import Any

import torch
from modules import shared

from lib_gie.checks import quoted
from lib_gie.errors import OptionError
from lib_gie.hosts.webui.request.installed import adapter_folders
from lib_gie.training.judges import judge_class, setting_key
from lib_gie.training.judges.hand_judge import Ask

from .pace import Paces
from .progress import BatchStoppedError, Progress, Stage
from .work_order import WorkOrder

Asked = tuple[WorkOrder, str]
"""An order, and the checkpoint with the settings that its images depend on (see ``ImageMaker.description``)."""


def judge_settings(judge: str, ask: Ask | None = None) -> dict[str, Any]:
    """Return what a judge's ``build`` takes: what the settings page has of it, or ``ask`` where a person judges."""
    kind = judge_class(judge)
    if kind.asks_person:
        return {"ask": ask}
    return {setting.name: getattr(shared.opts, setting_key(judge, setting), "") for setting in kind.settings}


class Trainer:
    """One training at a time; what was labelled stays on disk and is not made again."""

    def __init__(self) -> None:
        self.progress = Progress()
        self.paces = Paces(adapter_folders()[-1] / "labels" / "paces.jsonl")
        """How fast this WebUI made the images of earlier trainings."""
        self._begun: Asked | None = None  # what was begun last
        self._accepted: Asked | None = None  # what was begun again after a warning: it is not warned of any more
        self._stop = threading.Event()
        self._answer = 0
        self._answered = threading.Event()
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    @property
    def running(self) -> bool:
        """True while a training is under way."""
        return self._thread is not None and self._thread.is_alive()

    @property
    def order(self) -> WorkOrder | None:
        """The order of the training that is under way; None where none is."""
        return self._begun[0] if self._begun is not None and self.running else None

    @property
    def trained(self) -> WorkOrder | None:
        """The order of the training that was the last, as it is without *Replace*; None where that is not done."""
        is_done = self._begun is not None and self.progress.state == "done"
        return dataclasses.replace(self._begun[0], replace=False) if is_done and self._begun is not None else None

    def start(self, order: WorkOrder) -> None:
        """Check the order and begin. Raises GieError for bad orders, OptionError where one is under way.

        An order that was warned of goes on when it is given again with the same checkpoint and settings, and is not
        warned of any more, however often it is interrupted. Whoever begins another one is warned anew.
        """
        with self._lock:
            if self.running:
                raise OptionError("a training is under way; interrupt it first, or wait")
            from .run import prepare  # loads what fits and draws: the WebUI's start is not to wait for it

            progress = Progress("running", stage=Stage("starting"))
            settings = judge_settings(order.judge, self._ask)
            run = prepare(order, progress, self._stop.is_set, self.paces, **settings)
            asked = order, run.maker.description
            is_again = asked == self._begun and self.progress.state == "warned"
            run.even_so = is_again or asked == self._accepted
            self._stop.clear()
            self.progress, self._begun, self._accepted = progress, asked, asked if run.even_so else None
            self._thread = threading.Thread(target=run.safely, name="gie-training", daemon=True)
            self._thread.start()

    def _ask(self, images: torch.Tensor, prompt: str, concept: str) -> int:
        """Show the images and wait until someone clicks on one of them (see ``hand_judge.Ask``).

        ``images``: float32 [B, 3, H, W], 0 to 1. Raises BatchStoppedError where the training is stopped instead.
        """
        from lib_gie.pictures import picture  # draws: the WebUI's start is not to wait for it

        progress = self.progress
        progress.pictures = [(picture(image), prompt) for image in images]
        self._answered.clear()
        progress.state = "asking"
        progress.text = f"{prompt}: click on the first image that does not show {concept}"
        while not self._answered.wait(0.2):
            if self.stopping:
                raise BatchStoppedError("labelling by hand was stopped")
        progress.state, progress.text = "running", ""
        return self._answer

    def answer(self, number: int | None) -> None:
        """Take the image that was clicked on; None: all show it. It counts only while there is a question.

        Raises OptionError for the number of no image: whoever knows the address can send any.
        """
        if self.progress.state == "asking" and not self._answered.is_set():
            count = len(self.progress.pictures)
            if number is not None and not (type(number) is int and 0 <= number < count):
                raise OptionError(f"the answer is {quoted(number)}; it must be from 0 to {count - 1}")
            self._answer = count if number is None else number
            self._answered.set()

    def stop(self) -> None:
        """Interrupt after the batch that is being made; the same order goes on from there."""
        self._stop.set()

    @property
    def stopping(self) -> bool:
        """True from when it is told to stop until the next start."""
        return self._stop.is_set()


trainer = Trainer()
"""The WebUI's one trainer: a training goes on when the page is closed or built anew."""
