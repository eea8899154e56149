"""One training on the loaded checkpoint: labels, fit, file, report."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from lib_gie.core.scales.adapter import save_adapter
from lib_gie.core.scales.calibrated import Calibration
from lib_gie.demo.fixed_scale import default_scale
from lib_gie.errors import GieError
from lib_gie.hosts.library import TAB, TRAINED_IN
from lib_gie.hosts.webui.request.installed import calibrations_folder
from lib_gie.pictures import SheetRow, contact_sheet, picture
from lib_gie.pictures.fit_plot import scatter
from lib_gie.training.calibration import MOST_EVALUATIONS, CalibrationStoppedError, calibrate
from lib_gie.training.fitting import Fit, PromptInputs, Recipe, fit_labels, predictions
from lib_gie.training.image_maker import Made
from lib_gie.training.judges import Judge, judge_class, make_judge
from lib_gie.training.judges.base import Verdict
from lib_gie.training.labels import Label, Labelling, Sample
from lib_gie.training.presumption import Presumption, presume_or_say_why, search_by
from lib_gie.training.report import describe, summary
from lib_gie.training.rounds import Rounds

from .adapter_file import allowed_path, calibration_of
from .image_maker import WebUIImageMaker
from .progress import BatchStoppedError, Captioned, Progress
from .work_order import WorkOrder

_RECENT = 8  # pictures that are shown while it runs
_STRIP = (0.0, -0.5, -1.0, -2.0, -4.0)
_STRIPS = 3  # prompts of the report with an image per scale


def prepare(order: WorkOrder, progress: Progress, should_stop: Callable[[], bool], **settings: Any) -> Run:
    """Check the order, and return what it is run by. Raises GieError for bad orders.

    ``progress``: is kept up to date. ``should_stop``: asked between batches. ``settings``: the judge's.
    """
    samples = order.samples()
    path = allowed_path(order)
    maker = _maker_of(order)
    judge = make_judge(order.judge, maker, order.bare_concept, **settings)
    return Run(order, samples, path, maker, judge, progress, should_stop)


def _maker_of(order: WorkOrder) -> WebUIImageMaker:
    """Return the loaded checkpoint with the order's sampling."""
    return WebUIImageMaker(
        sampler=order.sampler, steps=order.steps, cfg=order.cfg, width=order.width, height=order.height
    )


def seconds_per_image(order: WorkOrder) -> float:
    """Make one batch, have it judged (but not by a person), and return how many seconds an image took."""
    maker, samples = _maker_of(order), order.samples()[: order.batch]
    prompts = [sample.prompt for sample in samples]
    started = time.monotonic()
    scales = torch.full((len(prompts),), order.scales[-1])  # [B]
    made = maker.make(prompts, [sample.seed for sample in samples], order.bare_concept, scales)
    kind = judge_class(order.judge)
    if not (kind.asks_person or kind.settings):  # neither a person's time nor a service's price
        make_judge(order.judge, maker, order.bare_concept).look(made, prompts)
    return (time.monotonic() - started) / len(prompts)


@dataclass
class Run:
    """One training from labels to report. ``path``: where the adapter goes; ``should_stop``: asked between batches."""

    order: WorkOrder
    samples: Sequence[Sample]
    path: Path
    maker: WebUIImageMaker
    judge: Judge
    progress: Progress
    should_stop: Callable[[], bool]
    _all_labelled: str = ""  # why every prompt is labelled; "" where the calibration knows of some

    @property
    def concept(self) -> str:
        return self.order.bare_concept

    @property
    def _kept(self) -> Path:
        return self.path.parent / "labels"

    def safely(self) -> None:
        """Run, and put whatever goes wrong into the progress, where the page shows it. Raises what is no GieError."""
        progress = self.progress
        try:
            self._run(progress)
        except GieError as error:
            progress.state, progress.text = "failed", str(error)
        except Exception as error:  # a thread's exception would be seen by nobody
            progress.state, progress.text = "failed", f"{type(error).__name__}: {error}"
            raise

    def _run(self, progress: Progress) -> None:
        inputs, recipe = PromptInputs(self.maker, [self.concept]), Recipe()
        try:
            presumption = self._presumption(progress)
        except CalibrationStoppedError:
            progress.state, progress.text = "stopped", "interrupted while calibrating; Train goes on from there"
            return
        labelling = self._labelling(presumption)
        labels = self._label(progress, labelling, presumption, inputs, recipe)
        if self.should_stop():
            progress.state = "stopped"
            progress.text = f"interrupted with {progress.done} of {progress.total} labels; Train goes on from there"
            return
        progress.text = "reading the prompts' attention and fitting"
        result = fit_labels(inputs, {self.concept: labels}, recipe, {self.concept: presumption})
        more = {"checkpoint": self.maker.name, TRAINED_IN: TAB}
        adapter = describe(result, {self.concept: labels}, self.maker, {self.concept: self.judge}, recipe, more)
        save_adapter(adapter, allowed_path(self.order))  # the admin may have chosen otherwise meanwhile
        progress.text = "drawing the report"
        points = predictions(inputs, result, self.concept, labels, recipe, presumption)
        progress.report = [
            (scatter(points, self.path.stem), "predicted against labelled scales"),
            *self._strips(labels),
        ]
        why = f" Every prompt was labelled: {self._all_labelled}." if self._all_labelled else ""
        progress.text = f"{report_text(result, labels, self.path)}{why} {self.maker.automatic_text(self.concept)}."
        progress.state = "done"

    def _presumption(self, progress: Progress) -> Presumption | None:
        """Return what the concept's calibration says of the prompts; None where every prompt is to be labelled.

        Raises CalibrationStoppedError where it is stopped.
        """
        started, labelling = time.monotonic(), progress.text
        progress.text, progress.expected = f"calibrating {self.concept}", MOST_EVALUATIONS

        def told(done: int, expected: int) -> None:
            progress.evaluations, progress.expected = done, expected
            progress.seconds = time.monotonic() - started

        def calibrated() -> Calibration:
            return calibration_of(self.maker, self.concept) or calibrate(
                self.maker, self.concept, self.maker.weights, unchecked=default_scale(self.maker.base),
                folder=calibrations_folder() / "neutral", on_progress=told, should_stop=self.should_stop,
            )  # fmt: skip

        try:
            presumed, self._all_labelled = presume_or_say_why(
                self.maker, calibrated, self.samples, told, self.should_stop
            )
            return presumed
        finally:
            progress.text, progress.expected, progress.seconds = labelling, 0, 0.0

    def _labelling(self, presumption: Presumption | None) -> Labelling:
        search = search_by(presumption, self.order.scales)
        return Labelling(
            self.maker, self.judge, self.concept, self.samples, self._kept, search=search, batch=self.order.batch
        )

    def _label(
        self,
        progress: Progress,
        labelling: Labelling,
        presumption: Presumption | None,
        inputs: PromptInputs,
        recipe: Recipe,
    ) -> list[Label]:
        started = time.monotonic()

        def on_batch(made: Made, of: list[tuple[Sample, float]], verdicts: list[Verdict]) -> None:
            progress.done = labelling.done
            progress.images += len(of)
            progress.seconds = time.monotonic() - started
            pictures = [
                (picture(image), f"{scale:g}: {sample.prompt}")
                for image, (sample, scale) in zip(made.images, of, strict=True)
            ]
            progress.pictures = (progress.pictures + pictures)[-_RECENT:]

        progress.done, progress.total = labelling.done, len(labelling.searches)
        rounds = None if presumption is None else Rounds(labelling, presumption, inputs, recipe)

        def on_round(number: int) -> None:
            assert rounds is not None
            progress.text, progress.total = f"labelling, round {number}", max(rounds.begun, labelling.done)

        while True:
            try:
                if rounds is None:
                    return labelling.run(self.should_stop, on_batch)
                return rounds.run(self.should_stop, on_batch, on_round)
            except BatchStoppedError:  # someone stopped a generation in the WebUI, which was this batch
                if self.should_stop():
                    return []

    def _strips(self, labels: Sequence[Label]) -> list[Captioned]:
        """Draw an image per scale for a few prompts of different labels."""
        shown = sorted((label for label in labels if label.scale < 0), key=lambda label: label.scale)
        chosen = [shown[k * (len(shown) - 1) // max(1, _STRIPS - 1)] for k in range(_STRIPS)] if shown else []
        rows = []
        for label in dict.fromkeys(chosen):
            sample, count = label.sample, len(_STRIP)
            made = self.maker.make([sample.prompt] * count, [sample.seed] * count, self.concept, torch.tensor(_STRIP))
            rows.append(SheetRow(sample.prompt, f"label {label.scale:g}", [picture(image) for image in made.images]))
        if not rows:
            return []
        return [(contact_sheet([f"{scale:g}" for scale in _STRIP], rows), "a prompt per line, a scale per column")]


def report_text(result: Fit, labels: Sequence[Label], path: Path) -> str:
    """Return what the figures say, in a few lines."""
    figures = summary(result, {"": labels})
    verdict = (
        "it is better than one constant scale"
        if result.is_better
        else "it is no better than one constant scale: give more prompts of all three kinds, or use the fixed scale"
    )
    return (
        f"{path.stem} is trained and in the list of adapters. {figures['prompts']} prompts, of which "
        f"{figures['presumed_prompts']} were taken as the calibration says; {figures['images']} images for "
        f"{figures['labelled']} labels: it showed in {figures['shown_without_erasure']} without erasure and resisted "
        f"every scale in {figures['never_erased']}. On the prompts kept for validation {verdict} (mean squared error "
        f"{figures['validation_error']:g}, constant {figures['constant_error']:g})."
    )
