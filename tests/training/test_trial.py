"""Whether a judge is too weak for a concept, before labels are made, and what is said of an adapter afterwards."""

from __future__ import annotations

import pytest
import torch
from scipy.stats import mannwhitneyu
from test_training import Calibrated, Host

from lib_gie.core.scales.adapter import Adapter, AdapterInfo
from lib_gie.core.scales.fitted import GOOD_ENOUGH
from lib_gie.training.fitting import Fit, PromptInputs, Recipe, fit_labels
from lib_gie.training.judges.trial import FEWEST, LEAST_AUC, Trial, auc
from lib_gie.training.labels import CALIBRATION, Label, Labelling, Sample
from lib_gie.training.report import describe, is_good, summary, verdict

NAMED = [Sample(f"knife {scale}", seed) for scale in (-0.5, -3) for seed in range(6)]
OTHERS = [Sample(f"a cat {number} 0", 1, "unrelated") for number in range(30)]


def test_the_share_of_pairs_in_the_right_order():
    assert Trial([2, 3], [0, 1]).auc == 1
    assert Trial([0, 1], [2, 3]).auc == 0
    assert Trial([1, 1], [1]).auc == 0.5
    assert Trial([0, 2], [1]).auc == 0.5


def test_images_of_one_kind_alone_make_no_pair():
    for scores in (([], [1.0]), ([1.0], []), ([], [])):
        with pytest.raises(ValueError, match="make no pair"):
            auc(*scores)


def test_the_share_of_pairs_is_the_rank_statistic_of_mann_and_whitney():
    showing, absent = torch.randint(0, 9, (2, 40), generator=torch.Generator().manual_seed(5)).tolist()
    expected = mannwhitneyu(showing, absent[:30]).statistic / (40 * 30)  # with many equal scores
    assert auc(showing, absent[:30]) == pytest.approx(expected)


def test_a_judge_that_knows_is_weak_where_few_images_show_what_they_should():
    assert Trial([1.0] * 11 + [0.0] * 13, [0.0] * 24).is_weak
    assert not Trial([1.0] * 12 + [0.0] * 12, [0.0] * 24).is_weak


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
    result = fitted(0.07 if better else 0.2, 0.15)
    assert result.is_better == better
    return verdict(result, summary(result, {"knife": labels}), "my-knife")


def labels(scale: float, erased: bool = True) -> list[Label]:
    return [Label(sample, scale, erased, None, 3) for sample in NAMED]


def test_the_verdict_is_one_sentence():
    for better in (True, False):
        for made in (labels(-1.0), labels(0.0), labels(-16.0, erased=False)):
            text = said(better, made)
            good = better and made == labels(-1.0)
            assert text.startswith("my-knife is good:" if good else "my-knife is not good enough, because")
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


@pytest.mark.parametrize("made", [labels(0.0), labels(-16.0, erased=False)])
def test_whatever_is_predicted_nothing_is_good_that_was_never_seen_to_erase(made):
    assert said(True, made) == said(False, made)


@pytest.mark.parametrize(("resisting", "good"), [(6, True), (7, False)])
def test_it_is_good_if_half_of_the_images_are_erased(resisting, good):
    made = labels(-16.0, erased=False)[:resisting] + labels(-1.0)[resisting:]
    assert ("is good:" in said(True, made)) == good


@pytest.mark.parametrize(("error", "begins"), [(0.075, "is good:"), (0.08, "is not good yet, because"),
                                               (0.15, "is not good enough, because")])  # fmt: skip
def test_a_good_one_is_much_better_than_one_scale_for_all(error, begins):
    """It is a doubt for who trained on too little, whom nothing else tells of it."""
    result, figures = fitted(error, 0.15), summary(fitted(error, 0.15), {"knife": labels(-1.0)})
    text = verdict(result, figures, "my-knife")
    assert text.startswith(f"my-knife {begins}")
    assert not is_good(fitted(0.0, 0.0), figures)  # it was fitted to no erasure at all
    assert is_good(result, figures) == ("is good:" in text)
    assert ("train it again with more than these 2 prompts" in text) == (not is_good(result, figures))


def test_without_an_image_the_error_alone_decides():
    """Every label was kept from the calibration."""
    presumed = [Label(sample, -1.0, True, None) for sample in NAMED]
    assert "is good:" in said(True, presumed)
    assert "more than these 2 prompts" in said(False, presumed)


def test_labels_that_no_scale_erased_are_learned_well_and_are_not_good():
    """The fit is real: attention tells which prompts name it, all of which have the same label."""
    made = [Label(Sample(f"knife {number} -4", 0), -4.0, False, None, 6) for number in range(30)]
    made += [Label(Sample(f"a cat {number} 0", 0, "unrelated"), 0.0, True, None) for number in range(30)]
    result = fit_labels(PromptInputs(Host(), ["knife"]), {"knife": made}, Recipe(epochs=200))
    assert result.is_better
    text = verdict(result, summary(result, {"knife": made}), "knife")
    assert text.startswith("knife is not good enough, because no scale erased the concept in 30 of 30 images")
    described = describe(result, {"knife": made}, Host(), {}, Recipe(), {})
    assert described.info.validation[GOOD_ENOUGH] is False
