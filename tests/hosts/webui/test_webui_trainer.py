"""The trainer goes on with a judge that was warned of, and keeps how fast images were made; see ``test_tab.py`` too.

Trainer, run, labelling and trial are real. The images are empty, and the judge guesses.
"""

from __future__ import annotations

import dataclasses
import importlib
import sys
import threading
import time
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
import torch
from test_webui_glue import host  # noqa: F401

from lib_gie.errors import ErasureError
from lib_gie.training.image_maker import Made
from lib_gie.training.judges import Judge, Verdict
from lib_gie.training.judges.trial import Trial

NAMED = [f"a knife on table {number}" for number in range(24)]
OTHERS = [f"a cat on table {number}" for number in range(24)]
PROMPTS = "\n".join([*NAMED, "[unrelated]", *OTHERS])
WAITING, MAKING = 100.0, 2.0


class Clock:
    """A clock that stands still but when it is told to go on."""

    now = 0.0

    def monotonic(self) -> float:
        return self.now

    @contextmanager
    def turn(self):
        """A turn that comes after others' generations."""
        self.now += WAITING
        yield


class TimedMaker:
    """Takes MAKING seconds for a batch, ten times as long for the very first one."""

    base, name, weights, description = "tiny", "some checkpoint", "0123", "first"
    latent_size, conditions = (2, 3), {"clip_skip": 1, "cfg": 4.0}

    def __init__(self, clock, turns, batches):
        self.clock, self.turns, self.batches = clock, turns, batches

    def make(self, prompts, seeds, concept, scales):
        with self.turns():
            self.clock.now += MAKING if self.batches else 10 * MAKING
            self.batches.append(len(prompts))
            return Made(torch.zeros(len(prompts), 3, 8, 8), torch.zeros(len(prompts), 4, 1, 1))

    def read(self, prompts, concepts, readings):
        raise ErasureError("the checkpoint was changed")


class Guessing(Judge):
    """Gives every image the same score."""

    name, calibrates = "guessing", True

    def look(self, made, prompts):
        return [Verdict(0.5) for _ in prompts]


class Calibrating:
    """What stands for the calibration: it ends with an error, or when it is told to."""

    error: Exception | None = None

    def __init__(self, run):
        self.stopped, self.begun = run.CalibrationStoppedError, threading.Event()

    def __call__(self, *args, should_stop, **options):
        self.begun.set()
        if self.error is not None:
            raise self.error
        while not should_stop():
            time.sleep(0.01)
        raise self.stopped


@pytest.fixture
def training(host, monkeypatch, tmp_path):  # noqa: F811
    """(trainer, order, calibration, modules of run and pace, clock, sizes of the batches)."""
    own = {
        "call_queue": {"queue_lock": threading.Lock()},
        "sd_samplers": {},
        "sd_vae": {},
        "paths_internal": {"data_path": str(tmp_path)},
        "extra_networks": {},
    }
    for name, attributes in own.items():
        module = sys.modules.get(f"modules.{name}") or host._module(name)
        monkeypatch.setitem(sys.modules, f"modules.{name}", module)
        monkeypatch.setattr(sys.modules["modules"], name, module, raising=False)
        for attribute, value in attributes.items():
            monkeypatch.setattr(module, attribute, value, raising=False)
    run, pace, trainer, work_order = (
        importlib.import_module(f"lib_gie.hosts.webui.training.{name}")
        for name in ("run", "pace", "trainer", "work_order")
    )
    clock, batches, calibrating = Clock(), [], Calibrating(run)
    monkeypatch.setattr(run, "_maker_of", lambda order, turns: TimedMaker(clock, turns, batches))
    monkeypatch.setattr(run, "make_judge", lambda *args, **settings: Guessing())
    monkeypatch.setattr(run, "calibrate", calibrating)
    monkeypatch.setattr(run, "take_turn", clock.turn)
    monkeypatch.setattr(pace, "time", clock)
    order = work_order.WorkOrder("knife", "", PROMPTS, "self", 100, 1, 5, "Euler", 20, 4.0, 64, 64, 8)
    return SimpleNamespace(
        trainer=trainer.Trainer(),
        order=order,
        calibrating=calibrating,
        run=run,
        pace=pace,
        clock=clock,
        batches=batches,
    )


def train(training, **changes):
    """Begin, and wait for the end or the calibration. Return the state."""
    training.calibrating.begun.clear()
    training.trainer.start(dataclasses.replace(training.order, **changes))
    while training.trainer.running and not training.calibrating.begun.is_set():
        time.sleep(0.01)
    if not training.calibrating.begun.is_set() or training.calibrating.error is not None:
        training.trainer._thread.join()
    return training.trainer.progress.state


def interrupt(training) -> None:
    training.trainer.stop()
    training.trainer._thread.join()


def test_whoever_goes_on_after_the_warning_is_not_warned_again(training):
    assert train(training) == "warned"
    assert not training.calibrating.begun.is_set()
    for _ in range(3):
        assert train(training) == "running"
        interrupt(training)
        assert training.trainer.progress.state == "stopped"


def test_it_goes_on_after_an_error_too(training):
    assert train(training) == "warned"
    training.calibrating.error = ErasureError("no calibration: every prompt is labelled, then the prompts are read")
    for _ in range(2):
        assert train(training) == "failed"
    assert training.trainer.progress.text == "the checkpoint was changed"


def test_an_order_that_was_never_warned_of_is_warned_of(training):
    assert train(training) == "warned"
    assert train(training, seeds=2) == "warned"
    assert train(training) == "warned"
    assert train(training) == "running"
    interrupt(training)
    assert train(training, seeds=2) == "warned"
    assert train(training) == "warned"


def test_an_interrupt_before_the_warning_is_no_consent(training, monkeypatch):
    make = TimedMaker.make

    def interrupted(self, *args):
        training.trainer.stop()
        return make(self, *args)

    with monkeypatch.context() as patched:
        patched.setattr(TimedMaker, "make", interrupted)
        assert train(training) == "stopped"
    assert training.batches == [8]
    assert train(training) == "warned"


def test_another_checkpoint_is_warned_of(training, monkeypatch):
    assert train(training) == "warned"
    assert train(training) == "running"
    interrupt(training)
    monkeypatch.setattr(TimedMaker, "description", "second")
    assert train(training) == "warned"


def test_the_warning_says_both_causes_and_what_to_do_for_each(training):
    assert train(training) == "warned"
    text = training.trainer.progress.text
    assert text == training.run.weak_judge_text("self", "knife", Trial([0.5] * 24, [0.5] * 24))
    assert "found the right one in 50 of 100" in text
    for part in (
        "the judge cannot tell whether an image shows knife", "this checkpoint seldom draws it", "take another judge",
        "take prompts that this checkpoint draws it for", "Press Train again",
    ):  # fmt: skip
        assert part in text


# -- paces ------------------------------------------------


def evaluations(training) -> int:
    """Return those in which an image of a training is made and judged."""
    return training.run.evaluations_of_image(training.order.steps, training.run.judge_class(training.order.judge))


def pace_of(training) -> float:
    return training.trainer.paces.of(training.pace.Setting(TimedMaker.name, 64, 64))


def test_the_pace_is_of_batches_alone(training):
    """Neither is waited for others in it, nor is the first batch part of it."""
    assert train(training) == "warned"
    assert training.batches == [8] * 6
    assert pace_of(training) == pytest.approx(MAKING / (8 * evaluations(training)))


def test_a_batch_that_was_stopped_in_the_webui_is_left_out(training, monkeypatch):
    make, tries = TimedMaker.make, []

    def stopped(self, *args):
        tries.append(self)
        if len(tries) == 3:
            with self.turns():
                self.clock.now += 1000
                raise training.run.BatchStoppedError("the batch was stopped")
        return make(self, *args)

    monkeypatch.setattr(TimedMaker, "make", stopped)
    assert train(training) == "warned"
    assert (len(tries), training.batches) == (7, [8] * 6)
    assert pace_of(training) == pytest.approx(MAKING / (8 * evaluations(training)))


def test_a_measurement_is_of_the_second_batch(training):
    training.run.measure_pace(training.order, training.trainer.paces)
    assert training.batches == [8] * 2
    assert pace_of(training) == pytest.approx(MAKING / (8 * evaluations(training)))


def test_one_batch_alone_tells_no_pace(training):
    assert train(training, batch=32, prompts="\n".join([*NAMED[:8], "[unrelated]", *OTHERS[:8]])) == "warned"
    assert training.batches == [16]
    assert pace_of(training) is None


def test_what_is_done_between_batches_is_left_out(training):
    turns = training.pace.TimedTurns(training.clock.turn)
    timer = training.pace.BatchTimer(turns)

    def work(seconds: float) -> None:
        with turns():
            training.clock.now += seconds

    for seconds in (50, 3, 4):
        work(seconds)
        timer.end_batch(8)
    work(1000)  # the fit between two rounds reads the prompts
    timer.begin()
    work(5)
    timer.end_batch(2)
    assert (timer.images, timer.seconds) == (18, 12)


def test_a_turn_that_ends_with_an_error_has_lasted_too(training):
    turns = training.pace.TimedTurns(training.clock.turn)
    with pytest.raises(ErasureError), turns():
        training.clock.now += 7
        raise ErasureError("stopped")
    assert turns.seconds == 7


def test_the_noise_schedule_is_that_of_the_settings(host, monkeypatch):  # noqa: F811
    """Not the one that the last generation has left in the model, which may have overridden a setting."""
    a1111 = importlib.import_module("lib_gie.hosts.webui.host.a1111")

    def override(model, p) -> None:
        model.alphas_cumprod = model.alphas_cumprod_original / 2

    monkeypatch.setattr(a1111.sd_models, "apply_alpha_schedule_override", override)
    model = SimpleNamespace(alphas_cumprod=torch.zeros(3), alphas_cumprod_original=torch.ones(3))
    assert a1111.AUTOMATIC1111().alphas_cumprod(model).tolist() == [0.5] * 3
    assert model.alphas_cumprod.tolist() == [0.0] * 3
