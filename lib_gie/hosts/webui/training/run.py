"""One training on the loaded checkpoint: labels, fit, file, report."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from lib_gie.core.scales.adapter import save_adapter
from lib_gie.errors import GieError
from lib_gie.hosts.webui.request.library import TAB, TRAINED_IN
from lib_gie.pictures import SheetRow, contact_sheet, picture
from lib_gie.pictures.fit_plot import scatter
from lib_gie.training.fitting import Fit, Recipe, fit_labels, predictions
from lib_gie.training.judges import Judge, judge_class, make_judge
from lib_gie.training.labels import Label, Labelling
from lib_gie.training.report import describe, summary

from .image_maker import BatchStoppedError, WebUIHost
from .trainer import allowed_path
from .work_order import Order

if TYPE_CHECKING:
    from .trainer import Picture, Progress, Trainer

_RECENT = 8  # pictures that are shown while it runs
_STRIP = (0.0, -0.5, -1.0, -2.0, -4.0)
_STRIPS = 3  # prompts of the report with an image per scale


def prepare(trainer: Trainer, order: Order, **settings: Any) -> Run:
    """Check the order. ``settings``: the judge's. Raises GieError for bad orders."""
    samples = order.samples()
    path = allowed_path(order)
    host, concept = host_of(order), order.bare_concept
    judge = make_judge(order.judge, host, concept, **settings)
    labelling = Labelling(host, judge, concept, samples, path.parent / "labels", grid=order.scales, batch=order.batch)
    return Run(trainer, order, path, host, judge, labelling)


def host_of(order: Order) -> WebUIHost:
    """The loaded checkpoint with the order's sampling."""
    return WebUIHost(sampler=order.sampler, steps=order.steps, cfg=order.cfg, width=order.width, height=order.height)


def seconds_per_image(order: Order) -> float:
    """Make one batch, have it judged where that costs no person's time and no service, and return seconds per image."""
    host, samples = host_of(order), order.samples()[: order.batch]
    prompts = [sample.prompt for sample in samples]
    started = time.monotonic()
    scales = torch.full((len(prompts),), order.scales[-1])  # [B]
    made = host.make(prompts, [sample.seed for sample in samples], order.bare_concept, scales)
    kind = judge_class(order.judge)
    if not (kind.asks_person or kind.settings):
        make_judge(order.judge, host, order.bare_concept).look(made, prompts)
    return (time.monotonic() - started) / len(prompts)


@dataclass
class Run:
    """One training from labels to report."""

    trainer: Trainer
    order: Order
    path: Path
    host: WebUIHost
    judge: Judge
    labelling: Labelling

    @property
    def concept(self) -> str:
        return self.labelling.concept

    def safely(self) -> None:
        """Run, and put whatever goes wrong where the page shows it."""
        progress = self.trainer.progress
        try:
            self._run(progress)
        except GieError as error:
            progress.state, progress.text = "failed", str(error)
        except Exception as error:  # a thread's exception would be seen by nobody
            progress.state, progress.text = "failed", f"{type(error).__name__}: {error}"
            raise

    def _run(self, progress: Progress) -> None:
        labels = self._label(progress)
        if self.trainer.stopping:
            progress.state = "stopped"
            progress.text = f"interrupted with {progress.done} of {progress.total} labels; Train goes on from there"
            return
        progress.text = "reading the prompts' attention and fitting"
        recipe = Recipe()
        result = fit_labels(self.host, {self.concept: labels}, recipe)
        more = {"checkpoint": self.host.name, TRAINED_IN: TAB}
        adapter = describe(result, {self.concept: labels}, self.host, {self.concept: self.judge}, recipe, more)
        save_adapter(adapter, allowed_path(self.order))  # the admin may have chosen otherwise meanwhile
        progress.text = "drawing the report"
        points = predictions(self.host, result, self.concept, labels, recipe)
        progress.report = [
            (scatter(points, self.path.stem), "predicted against labelled scales"),
            *self._strips(labels),
        ]
        progress.text = f"{report_text(result, labels, self.path)} {self.host.automatic_text(self.concept)}."
        progress.state = "done"

    def _label(self, progress: Progress) -> list[Label]:
        started = time.monotonic()

        def on_batch(made, of, verdicts) -> None:
            progress.done = self.labelling.done
            progress.images += len(of)
            progress.seconds = time.monotonic() - started
            pictures = [
                (picture(image), f"{scale:g}: {sample.prompt}")
                for image, (sample, scale) in zip(made.images, of, strict=True)
            ]
            progress.pictures = (progress.pictures + pictures)[-_RECENT:]

        while True:
            try:
                return self.labelling.run(lambda: self.trainer.stopping, on_batch)
            except BatchStoppedError:  # someone stopped a generation in the WebUI, which was this batch
                if self.trainer.stopping:
                    return []

    def _strips(self, labels: Sequence[Label]) -> list[Picture]:
        """An image per scale for a few prompts of different labels."""
        shown = sorted((label for label in labels if label.scale < 0), key=lambda label: label.scale)
        chosen = [shown[k * (len(shown) - 1) // max(1, _STRIPS - 1)] for k in range(_STRIPS)] if shown else []
        rows = []
        for label in dict.fromkeys(chosen):
            sample, count = label.sample, len(_STRIP)
            made = self.host.make([sample.prompt] * count, [sample.seed] * count, self.concept, torch.tensor(_STRIP))
            rows.append(SheetRow(sample.prompt, f"label {label.scale:g}", [picture(image) for image in made.images]))
        if not rows:
            return []
        return [(contact_sheet([f"{scale:g}" for scale in _STRIP], rows), "a prompt per line, a scale per column")]


def report_text(result: Fit, labels: Sequence[Label], path: Path) -> str:
    """What the figures say, in a few lines."""
    figures = summary(result, {"": labels})
    verdict = (
        "it is better than one constant scale"
        if result.is_better
        else "it is no better than one constant scale: give more prompts of all three kinds, or use the fixed scale"
    )
    return (
        f"{path.stem} is trained and in the list of adapters. {figures['prompts']} prompts, {figures['images']} "
        f"images; it showed in {figures['shown_without_erasure']} of them without erasure and resisted every scale "
        f"in {figures['never_erased']}. On the prompts kept for validation {verdict} (mean squared error "
        f"{figures['validation_error']:g}, constant {figures['constant_error']:g})."
    )
