"""How much work a training is, before and after its concept is calibrated."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from lib_gie.assets import MODELS
from lib_gie.cli.training_told import extent_text
from lib_gie.core.scales.adapter import read_header
from lib_gie.training.judges import judge_class
from lib_gie.training.labels import Sample
from lib_gie.training.presumption import Presumption
from lib_gie.training.rounds import ROUND
from lib_gie.training.search import GRID
from lib_gie.training.work import USUAL_TRIES, Amount, Work, seconds_of_evaluation, together, work_left, work_of

NAMING = [Sample(f"a knife {number}", seed, "explicit") for number in range(30) for seed in (1, 2)]
IMPLYING = [Sample(f"a robbery {number}", 1, "implicit") for number in range(40)]
UNRELATED = [Sample(f"a cat {number}", 1, "unrelated") for number in range(50)]
SAMPLES = [*NAMING, *IMPLYING, *UNRELATED]
DETECTOR = judge_class("detector")


def presumed(sure: int) -> Presumption:
    return Presumption(-1.0, {sample.prompt: float(number < sure) for number, sample in enumerate(IMPLYING)})


def images(work: Work) -> tuple[int, ...]:
    return tuple(amount.images for amount in (*work.usual, work.most))


def test_what_is_left_depends_on_what_the_calibration_knows():
    """At least a round, and an image of every doubtful prompt; all samples where nothing is known."""
    sure, doubtful, unknown = (
        work_left(SAMPLES, len(GRID), DETECTOR, 20, presumption) for presumption in (presumed(40), presumed(2), None)
    )
    every = len(NAMING) + len(IMPLYING)
    assert images(sure)[:2] == (ROUND * 2, 2 * ROUND * 3)
    assert images(doubtful)[:2] == (38 * 2, 38 * 4 + ROUND * 3)
    assert images(unknown)[:2] == (every * 2, every * 4)
    assert sure.most == doubtful.most == unknown.most
    assert sure.most.images > images(unknown)[1]
    assert sure.prompts == 30 + 40 + 50
    assert sure.usual[0].evaluations == 2 * ROUND * 40 + 2 * 120
    assert images(before := work_of(SAMPLES, len(GRID), DETECTOR, 20))[:2] == (ROUND * 2, 40 * 4 + ROUND * 3)
    assert before.most.evaluations - sure.most.evaluations == 1000 + 2 * 40  # calibration, and what implies the concept


@pytest.mark.parametrize("path", sorted(MODELS.glob("demo-*.safetensors")), ids=lambda path: path.stem)
def test_trainings_have_been_as_usual(path):
    """The adapters that come with the project say how many labels and images they took, of one concept or several."""
    found = read_header(path)
    labels, made, concepts = found.training["labelled"], found.training["images"], len(found.concepts)
    low, high = USUAL_TRIES
    assert 0.95 * low <= made / labels <= 1.05 * high
    assert ROUND * concepts <= labels <= 3 * ROUND * concepts  # two rounds more than a training needs are seldom


def test_a_usual_amount_is_never_beyond_the_most():
    few = [Sample("a knife", 1, "explicit"), Sample("a cat", 1, "unrelated")]
    for judge in ("detector", "self", "hand"):
        for presumption in (presumed(0), None):
            work = work_left(few, 1, judge_class(judge), 20, presumption)
            assert images(work) == tuple(sorted(images(work)))
            before = images(work_of(few, 1, judge_class(judge), 20))
            assert before == tuple(sorted(before))


def test_the_work_for_several_concepts_is_their_sum():
    one, two = (work_left(SAMPLES, len(GRID), DETECTOR, 20, presumed(sure)) for sure in (40, 2))
    both = together([one, two], 130)  # of 120 each, 110 are the same
    assert images(both) == tuple(map(sum, zip(images(one), images(two), strict=True)))
    assert both.most.evaluations == one.most.evaluations + two.most.evaluations - 2 * 110
    assert both.prompts == 130


@pytest.mark.parametrize(
    ("amounts", "said"),
    [((48, 144, 1416), "usually 48 to 144, at most 1,416"), ((10, 20, 20), "10 to 20"), ((20, 20, 20), "20"),
     ((20, 20, 60), "usually 20, at most 60")],
)  # fmt: skip
def test_what_is_no_more_is_not_said_twice(amounts, said):
    low, high, most = (Amount(count, count) for count in amounts)
    assert Work(1, (low, high), most).images_text == said


def test_times_in_words():
    low, high, most = (Amount(1, count) for count in (1, 2, 60))
    work = Work(1, (low, high), most)
    assert work.time_text(0.1) == "usually less than a second, at most 6 seconds"
    assert work.time_text(1) == "usually 1 to 2 seconds, at most 1 minute"
    assert work.time_text(60) == "usually 1 to 2 minutes, at most 1 hour"


def test_the_command_says_it_in_words():
    work = work_left(SAMPLES, len(GRID), DETECTOR, 20, presumed(40))
    text = extent_text("knife", work, DETECTOR, 0.1)
    assert text.startswith(f"knife: 120 prompts to read. Images to make: {work.images_text}. Time: ")
    assert work.images_text == f"usually 48 to 144, at most {images(work)[2]}"
    assert "Time: usually 4 to 10 minutes, at most 54 minutes, less" in text
    hand = judge_class("hand")
    by_hand = extent_text("knife", work_left(SAMPLES, len(GRID), hand, 20, None), hand, 0.1)
    assert "Images to make: 1,300. Time: 1 hour 27 minutes, less" in by_hand
    assert by_hand.endswith("your answers is added.")


class Slow:
    """A model of which an evaluation takes a given time, by a clock of the test's."""

    latent_size, alphas_cumprod = (8, 8), torch.ones(1000)

    def __init__(self, seconds: float):
        self.seconds, self.now, self.batches = seconds, 0.0, []

    def predict(self, latents, timesteps, texts, concept, scales):
        assert latents.shape[1:] == (4, 8, 8)
        assert len(latents) == len(timesteps) == len(texts) == len(scales)
        self.batches.append(len(latents))
        self.now += self.seconds * len(latents)


@pytest.mark.parametrize(("seconds", "batch", "batches"), [(0.01, 1024, [1, 24]), (0.01, 2, [1, 2]), (5.0, 24, [1, 1])])
def test_the_pace_is_measured_quickly(monkeypatch, seconds, batch, batches):
    model = Slow(seconds)
    monkeypatch.setattr("lib_gie.training.work.time", SimpleNamespace(monotonic=lambda: model.now))
    assert seconds_of_evaluation(model, "knife", batch) == pytest.approx(seconds)
    assert model.batches == batches
