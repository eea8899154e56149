"""Whether a judge is too weak for a concept, before labels are made, and what is said of an adapter afterwards."""

from __future__ import annotations

import pytest
import torch
from test_training import Calibrated, Host

from lib_gie.core.scales.adapter import Adapter, AdapterInfo
from lib_gie.training.fitting import Fit
from lib_gie.training.judges.trial import FEWEST, LEAST_AUC, Trial
from lib_gie.training.labels import CALIBRATION, Label, Labelling, Sample
from lib_gie.training.report import summary, verdict

NAMED = [Sample(f"knife {scale}", seed) for scale in (-0.5, -3) for seed in range(6)]
OTHERS = [Sample(f"a cat {number} 0", 1, "unrelated") for number in range(30)]


def test_the_share_of_pairs_in_the_right_order():
    assert Trial([2, 3], [0, 1]).auc == 1
    assert Trial([0, 1], [2, 3]).auc == 0
    assert Trial([1, 1], [1]).auc == 0.5
    assert Trial([0, 2], [1]).auc == 0.5


def test_a_judge_that_guesses_is_weak_and_one_that_knows_is_not():
    generator = torch.Generator().manual_seed(3)
    showing, absent = torch.randn(2, 24, generator=generator).tolist()
    assert Trial(showing, absent).is_weak
    assert not Trial([score + 3 for score in showing], absent).is_weak


def test_nothing_is_said_of_few_images():
    worst = Trial([0.0] * (FEWEST - 1), [1.0] * 24)
    assert worst.auc < LEAST_AUC
    assert not worst.is_weak
    assert Trial([0.0] * FEWEST, [1.0] * FEWEST).is_weak


def test_a_judge_is_tried_on_images_that_labelling_needs_anyway(tmp_path):
    host = Host()
    labelling = Labelling(host, Calibrated(), "knife", [*NAMED, *OTHERS], tmp_path, batch=5)
    assert labelling.trial is None
    assert labelling.untaught == len(NAMED) + CALIBRATION
    labelling.teach()
    assert len(host.made) == len(NAMED) + CALIBRATION
    assert {scale for _, _, scale in host.made} == {0.0}
    assert labelling.untaught == 0
    assert labelling.trial == Trial([1.0] * len(NAMED), [0.0] * CALIBRATION)
    labelling.run()
    assert sum(scale == 0 for _, _, scale in host.made) == len(NAMED) + CALIBRATION
    again = Labelling(Host(), Calibrated(), "knife", [*NAMED, *OTHERS], tmp_path)
    assert again.trial == labelling.trial  # from the disk


def test_it_is_interrupted_between_batches(tmp_path):
    host = Host()
    labelling = Labelling(host, Calibrated(), "knife", [*NAMED, *OTHERS], tmp_path, batch=5)
    labelling.teach(lambda: len(host.made) >= 10)
    assert len(host.made) == 10
    assert labelling.trial is None


# -- the verdict on an adapter ------------------------------------------------


def fitted(validation: float, constant: float) -> Fit:
    return Fit(Adapter(AdapterInfo("sd1", 16, ("knife",), (-5.0, 0.0))), 0.1, validation, -1.0, constant, 3)


def said(better: bool, labels) -> str:
    result = fitted(0.1 if better else 0.2, 0.15)
    assert result.is_better == better
    return verdict(result, summary(result, {"knife": labels}), "my-knife")


def labels(scale: float, erased: bool = True) -> list[Label]:
    return [Label(sample, scale, erased, None, 3) for sample in NAMED]


def test_the_verdict_is_one_sentence():
    for better in (True, False):
        for made in (labels(-1.0), labels(0.0), labels(-16.0, erased=False)):
            text = said(better, made)
            assert text.startswith("my-knife is good:" if better else "my-knife is not good enough, because")
            assert text.endswith(".")
            assert ". " not in text


@pytest.mark.parametrize(
    ("made", "advice"),
    [
        (labels(-1.0), "train it again with more than these 2 prompts"),
        (labels(0.0), "the judge saw the concept in none of the images"),
        (labels(-16.0, erased=False), "no scale erased the concept in 12 of 12 images"),
    ],
)
def test_what_to_do_goes_by_what_was_seen(made, advice):
    assert advice in said(False, made)
    assert advice not in said(True, made)
