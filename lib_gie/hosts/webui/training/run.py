"""One training on the loaded checkpoint: the judge is tried, then calibration, labels, fit, file, report."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch

from lib_gie.core.scales.adapter import save_adapter
from lib_gie.core.scales.calibrated import Calibration
from lib_gie.demo.fixed_scale import default_scale
from lib_gie.errors import GieError
from lib_gie.hosts.library import TAB, TRAINED_IN
from lib_gie.hosts.webui.request.installed import calibrations_folder
from lib_gie.pictures import picture
from lib_gie.pictures.fit_plot import scatter
from lib_gie.training.calibration import MOST_EVALUATIONS, CalibrationStoppedError, calibrate
from lib_gie.training.fitting import PromptInputs, Recipe, fit_labels, predictions
from lib_gie.training.image_maker import Made
from lib_gie.training.judges import Judge, Trial, judge_class, make_judge
from lib_gie.training.judges.base import Verdict
from lib_gie.training.labels import Label, Labelling, OnBatch, Sample
from lib_gie.training.presumption import Presumption, presume_or_say_why, search_by
from lib_gie.training.report import describe, summary, verdict
from lib_gie.training.rounds import ROUND, Rounds
from lib_gie.training.work import evaluations_of_image

from .adapter_file import allowed_path, calibration_of
from .image_maker import WebUIImageMaker, take_turn
from .pace import BatchTimer, Paces, Setting, TimedTurns
from .progress import PARTS, BatchStoppedError, Progress, Stage
from .report import report_text, strips, use_text
from .work_order import RANGES, WorkOrder

Result = TypeVar("Result")

_RECENT = 8  # pictures that are shown while it runs


def prepare(
    order: WorkOrder,
    progress: Progress,
    should_stop: Callable[[], bool],
    paces: Paces,
    **settings: Any,
) -> Run:
    """Check the order, and return what it is run by. Raises GieError for bad orders.

    ``progress``: is kept up to date. ``should_stop``: asked between batches. ``paces``: is told how fast images were
    made. ``settings``: the judge's.
    """
    samples = order.samples()
    path = allowed_path(order)
    turns = TimedTurns(take_turn)
    maker = _maker_of(order, turns)
    judge = make_judge(order.judge, maker, order.bare_concept, **settings)
    return Run(order, samples, path, maker, judge, progress, should_stop, paces, turns)


def _maker_of(order: WorkOrder, turns: TimedTurns) -> WebUIImageMaker:
    """Return the loaded checkpoint with the order's sampling. ``turns``: in which it makes the images."""
    return WebUIImageMaker(
        sampler=order.sampler, steps=order.steps, cfg=order.cfg, width=order.width, height=order.height, turn=turns
    )


def _note_pace(paces: Paces, order: WorkOrder, maker: WebUIImageMaker, timer: BatchTimer) -> None:
    """Keep how long images have taken, where no person and no service was waited for."""
    judge = judge_class(order.judge)
    if not (judge.asks_person or judge.settings):
        setting = Setting(maker.name, order.width, order.height)
        paces.note(setting, timer.images * evaluations_of_image(order.steps, judge), timer.seconds)


def measure_pace(order: WorkOrder, paces: Paces) -> None:
    """Make one batch, have it judged (but not by a person or a service), and keep how long that took.

    A batch of few steps comes before it, because the first images of a model take longer.
    """
    turns = TimedTurns(take_turn)
    maker, samples = _maker_of(order, turns), order.samples()[: order.batch]
    prompts, seeds = [sample.prompt for sample in samples], [sample.seed for sample in samples]
    scales = torch.full((len(prompts),), order.scales[-1])  # [B]
    first = dataclasses.replace(order, steps=RANGES["steps"][0])
    _maker_of(first, turns).make(prompts, seeds, order.bare_concept, scales)
    begun = turns.seconds
    made = maker.make(prompts, seeds, order.bare_concept, scales)
    kind, evaluations = judge_class(order.judge), 2 * order.steps
    if not (kind.asks_person or kind.settings):  # neither a person's time nor a service's price
        make_judge(order.judge, maker, order.bare_concept).look(made, prompts)
        evaluations = evaluations_of_image(order.steps, kind)
    setting = Setting(maker.name, order.width, order.height)
    paces.note(setting, len(prompts) * evaluations, turns.seconds - begun)


def weak_judge_text(judge: str, concept: str, trial: Trial) -> str:
    """Return what is said where a judge hardly tells apart what it learns from: both possible causes, what to do."""
    return (
        f"The judge {judge} hardly tells images of prompts with {concept} from images of unrelated prompts: of pairs "
        f"with one image of each kind it found the right one in {100 * trial.auc:.0f} of 100, and guessing finds it in "
        f"50. This has one of two causes. Either the judge cannot tell whether an image shows {concept}, or this "
        f"checkpoint seldom draws it for these prompts. Look at the images of prompts with {concept}. If most of them "
        f"show it, take another judge. If most of them do not, take prompts that this checkpoint draws it for. Press "
        f"Train again to train as it is nevertheless."
    )


def _scale_text(scale: float) -> str:
    return f"scale {scale:g}" if scale else "without erasure"


def _insist(work: Callable[[], Result], should_stop: Callable[[], bool], timer: BatchTimer) -> Result | None:
    """Return what work returns; None where it was told to stop.

    Where someone stopped a generation in the WebUI, which was one of its batches, it is done again. ``timer``: of the
    batches; what was stopped is not part of the next one.
    """
    while True:
        timer.begin()
        try:
            return work()
        except BatchStoppedError:
            if should_stop():
                return None


@dataclass
class Run:
    """One training from the judge's trial to the report. See ``prepare``.

    ``path``: where the adapter goes. ``turns``: those of the maker. ``even_so``: whether to train with a judge that
    hardly tells apart what it learns from.
    """

    order: WorkOrder
    samples: Sequence[Sample]
    path: Path
    maker: WebUIImageMaker
    judge: Judge
    progress: Progress
    should_stop: Callable[[], bool]
    paces: Paces
    turns: TimedTurns
    even_so: bool = False
    _all_labelled: str = ""  # why every prompt is labelled; "" where the calibration knows of some

    @property
    def concept(self) -> str:
        return self.order.bare_concept

    @property
    def _kept_in(self) -> Path:
        """The folder that keeps what an interrupted training has found."""
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
        inputs, recipe = PromptInputs(self.maker, [self.concept], folder=self._kept_in), Recipe()
        if not self._may_go_on():
            return
        try:
            presumption = self._presumption()
        except CalibrationStoppedError:
            self._end("stopped", "interrupted while calibrating; Train goes on from there")
            return
        labels = self._label(presumption, inputs, recipe)
        if self.should_stop():
            stage = progress.stage
            assert stage is not None
            self._end("stopped", f"interrupted with {stage.done} of {stage.total} labels; Train goes on from there")
            return
        progress.stage = Stage("reading the prompts' attention and fitting the adapter", part="fit")
        result = fit_labels(inputs, {self.concept: labels}, recipe, {self.concept: presumption})
        more = {"checkpoint": self.maker.name, TRAINED_IN: TAB}
        adapter = describe(result, {self.concept: labels}, self.maker, {self.concept: self.judge}, recipe, more)
        save_adapter(adapter, allowed_path(self.order))  # the admin may have chosen otherwise meanwhile
        progress.stage = Stage("drawing the report", part="fit")
        points = predictions(inputs, result, self.concept, labels, recipe, presumption)
        plot = scatter(points, self.path.stem), "predicted against labelled scales"
        progress.report = [plot, *strips(self.maker, self.concept, labels)]
        figures = summary(result, {"": labels})
        progress.verdict = verdict(result, figures, self.path.stem)
        use = use_text(self.path.stem, self.concept, self.maker.automatic_text(self.concept))
        self._end("done", f"{report_text(figures, self.path.stem, self._all_labelled)}{use}")

    def _end(self, state: str, text: str) -> None:
        self.progress.text = text
        self.progress.state = state  # last: the page takes it for the sign that all else is there

    def _may_go_on(self) -> bool:
        """Let the judge learn before all else, and tell whether it is worth going on."""
        labelling = self._labelling(None)
        self.progress.parts = PARTS if self.judge.calibrates else PARTS[1:]
        stage = Stage(f"trying the judge {self.order.judge}", "images", labelling.untaught, part="judge")
        with self._images_of(stage, lambda: stage.total - labelling.untaught) as (on_batch, timer):
            _insist(lambda: labelling.teach(self.should_stop, on_batch), self.should_stop, timer)
        if self.should_stop():
            self._end("stopped", "interrupted while the judge was tried; Train goes on from there")
            return False
        if labelling.trial is not None and labelling.trial.is_weak and not self.even_so:
            self._end("warned", weak_judge_text(self.order.judge, self.concept, labelling.trial))
            return False
        return True

    def _presumption(self) -> Presumption | None:
        """Return what the concept's calibration says of the prompts; None where every prompt is to be labelled.

        Raises CalibrationStoppedError where it is stopped.
        """
        stage = self.progress.stage = Stage(
            f"calibrating {self.concept}", "evaluations", MOST_EVALUATIONS, part="calibration"
        )

        def told(done: int, expected: int) -> None:
            stage.done, stage.total = done, expected

        def calibrated() -> Calibration:
            return calibration_of(self.maker, self.concept) or calibrate(
                self.maker, self.concept, self.maker.weights, unchecked=default_scale(self.maker.base),
                folder=calibrations_folder() / "neutral", on_progress=told, should_stop=self.should_stop,
            )  # fmt: skip

        presumed, self._all_labelled = presume_or_say_why(self.maker, calibrated, self.samples, told, self.should_stop)
        return presumed

    def _labelling(self, presumption: Presumption | None) -> Labelling:
        search = search_by(presumption, self.order.scales)
        return Labelling(
            self.maker, self.judge, self.concept, self.samples, self._kept_in, search=search, batch=self.order.batch
        )

    def _label(self, presumption: Presumption | None, inputs: PromptInputs, recipe: Recipe) -> list[Label]:
        labelling = self._labelling(presumption)
        found, count = labelling.done, len(labelling.searches)
        soon = count if presumption is None else max(found, min(count, ROUND))
        stage = Stage("labelling", "labels", soon, found, found, count, part="labels")
        with self._images_of(stage, lambda: labelling.done) as (on_batch, timer):
            if presumption is None:
                return _insist(lambda: labelling.run(self.should_stop, on_batch), self.should_stop, timer) or []
            rounds = Rounds(labelling, presumption, inputs, recipe)

            def on_round(number: int) -> None:
                timer.begin()  # the fit between two rounds reads the prompts
                stage.text, stage.total = f"labelling, round {number}", max(rounds.begun, labelling.done)

            return _insist(lambda: rounds.run(self.should_stop, on_batch, on_round), self.should_stop, timer) or []

    @contextmanager
    def _images_of(self, stage: Stage, done: Callable[[], int]) -> Iterator[tuple[OnBatch, BatchTimer]]:
        """Yield what is to be called with every batch, and its timer: it tells the page, then the pace is kept."""
        progress, timer = self.progress, BatchTimer(self.turns)
        progress.stage = stage

        def on_batch(made: Made, of: list[tuple[Sample, float]], verdicts: list[Verdict]) -> None:
            timer.end_batch(len(of))
            stage.done = done()
            stage.total = max(stage.total, stage.done)  # kept verdicts may settle labels of later rounds
            progress.images += len(of)
            pictures = [
                (picture(image), _scale_text(scale))  # a longer caption would be cut off
                for image, (_, scale) in zip(made.images, of, strict=True)
            ]
            progress.pictures = (progress.pictures + pictures)[-_RECENT:]

        yield on_batch, timer
        if timer.images >= self.order.batch:
            _note_pace(self.paces, self.order, self.maker, timer)
