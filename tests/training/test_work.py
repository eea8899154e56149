"""How much work a training is, before and after its concept is calibrated."""

from __future__ import annotations

from lib_gie.cli.train import _extent_text
from lib_gie.training.judges import judge_class
from lib_gie.training.labels import Sample
from lib_gie.training.presumption import Presumption
from lib_gie.training.rounds import ROUND
from lib_gie.training.search import GRID
from lib_gie.training.work import work_left, work_of

NAMING = [Sample(f"a knife {number}", seed, "explicit") for number in range(30) for seed in (1, 2)]
IMPLYING = [Sample(f"a robbery {number}", 1, "implicit") for number in range(40)]
UNRELATED = [Sample(f"a cat {number}", 1, "unrelated") for number in range(50)]
SAMPLES = [*NAMING, *IMPLYING, *UNRELATED]
DETECTOR = judge_class("detector")


def presumed(sure: int) -> Presumption:
    return Presumption(-1.0, {sample.prompt: float(number < sure) for number, sample in enumerate(IMPLYING)})


def test_what_is_left_depends_on_what_the_calibration_knows():
    """At least a round, and an image of every doubtful prompt; all samples where nothing is known."""
    sure, doubtful, unknown = (
        work_left(SAMPLES, len(GRID), DETECTOR, 20, presumption) for presumption in (presumed(40), presumed(2), None)
    )
    assert (sure.least, doubtful.least, unknown.least) == (ROUND, 38, len(NAMING) + len(IMPLYING))
    assert sure.images == doubtful.images == unknown.images > 100
    assert sure.prompts == 30 + 40 + 50
    assert sure.least_evaluations == ROUND * 40 + 2 * 120
    before = work_of(SAMPLES, len(GRID), DETECTOR, 20)
    assert before.evaluations - sure.evaluations == 1000 + 2 * 40  # the calibration, and what implies the concept


def test_the_command_says_it_in_words():
    judge = DETECTOR.__new__(DETECTOR)
    work = work_left(SAMPLES, len(GRID), DETECTOR, 20, presumed(40))
    text = _extent_text("knife", SAMPLES, presumed(40), judge, 20, 0.1)
    assert text.startswith(f"knife: 120 prompts are read, and {ROUND} to {work.images:,} images are made, less ")
    assert "takes one process 2 to" in text
    assert "on this machine" not in _extent_text("knife", SAMPLES, presumed(40), judge, 20, None)
    person = judge_class("hand")
    assert _extent_text("knife", SAMPLES, None, person.__new__(person), 20, 0.1).endswith("your answers is added.")
