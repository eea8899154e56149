"""From prompts to an adapter: the search, the labels on disk, the fit."""

from __future__ import annotations

from itertools import islice

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lib_gie.errors import OptionError
from lib_gie.scale import GivenScales
from lib_gie.training.fitting import Recipe, fit, is_validation, targets
from lib_gie.training.host import Made
from lib_gie.training.judges import Verdict, make_judge
from lib_gie.training.labels import Labelling, Sample
from lib_gie.training.search import GRID, Search

# -- the search ------------------------------------------------


@given(st.integers(0, len(GRID)), st.integers(1, 5))
def test_the_search_finds_the_weakest_scale_that_erases(gone_from, width):
    search, made = Search(width=width), 0
    while tries := search.tries():
        assert len(set(tries)) == len(tries) <= max(1, width)
        for number in tries:
            assert number not in search.shown
            search.tell(number, number < gone_from)
            made += 1
    assert search.label == GRID[min(gone_from, len(GRID) - 1)]
    assert search.erased == (gone_from < len(GRID))
    assert made < len(GRID)


@given(st.lists(st.booleans(), min_size=len(GRID), max_size=len(GRID)))
def test_the_search_ends_on_any_answers(answers):
    """Where a stronger scale brings the concept back, the label is a scale at which it was seen to be gone."""
    search = Search()
    while tries := search.tries():
        for number in tries:
            search.tell(number, answers[number])
    assert not answers[GRID.index(search.label)] or not search.erased


# -- labels ------------------------------------------------


class Host:
    """The concept shows down to a scale that the prompt names: "knife -1.5"."""

    base, layers, description = "tiny", 4, "first"

    def __init__(self):
        self.made: list[tuple[str, int, float]] = []

    def make(self, prompts, seeds, concept, scales, means=False):
        self.made += zip(prompts, seeds, scales.tolist(), strict=True)
        gone = torch.tensor([float(prompt.split()[-1]) for prompt in prompts])  # [B]
        shows = ((scales > gone) & (gone < 0)).float()  # [B]
        strength = gone[:, None, None].expand(-1, self.layers, 2)  # [B, layers, n]
        return Made(shows.view(-1, 1, 1, 1), torch.zeros(len(prompts), 4, 2, 2), strength if means else None)


class Judge:
    name = "by the first pixel"

    def look(self, made, prompts):
        return [Verdict(float(image.max())) for image in made.images]

    def shows(self, verdict, before):
        return verdict.score > 0.5


def _labelling(host, folder, samples=None):
    samples = samples or [Sample(f"knife {scale}", seed) for scale in (0, -0.5, -3, -16) for seed in (1, 2)]
    return Labelling(host, Judge(), "knife", samples, folder, batch=5)


def test_labels(tmp_path):
    host = Host()
    labels = _labelling(host, tmp_path).run()
    assert {(label.sample.prompt, label.scale) for label in labels} == {
        ("knife 0", 0.0), ("knife -0.5", -0.5), ("knife -3", -3.0), ("knife -16", -16.0)
    }  # fmt: skip
    assert all(label.means.shape == (4, 2) and label.erased for label in labels)
    assert len(set(host.made)) == len(host.made)


def test_labels_go_on_where_they_were_interrupted(tmp_path):
    whole, first, second = Host(), Host(), Host()
    expected = _labelling(whole, tmp_path / "whole").run()
    stops = iter([False, False, False, True])
    partial = _labelling(first, tmp_path).run(should_stop=lambda: next(stops))
    assert len(partial) < len(expected)
    with next(tmp_path.glob("labels-*")).open("a") as file:
        file.write('\n{"prompt": "kni')  # a line that was cut off
    labels = _labelling(second, tmp_path).run()
    assert [label.scale for label in labels] == [label.scale for label in expected]
    assert sorted(first.made + second.made) == sorted(whole.made)
    third = Host()
    _labelling(third, tmp_path).run()
    assert third.made == []


def test_labels_of_another_model_are_not_reused(tmp_path):
    _labelling(Host(), tmp_path).run()
    other = Host()
    other.description = "second"
    _labelling(other, tmp_path).run()
    assert other.made


def test_every_batch_can_be_watched(tmp_path):
    seen = []
    _labelling(Host(), tmp_path).run(on_batch=lambda made, of, verdicts: seen.append((len(made.images), of, verdicts)))
    assert all(count == len(of) == len(verdicts) <= 5 for count, of, verdicts in seen)


def test_unknown_judges_are_refused():
    with pytest.raises(OptionError, match="there is no judge 'oracle'; choose one of detector, self"):
        make_judge("oracle", Host(), "knife")
    with pytest.raises(OptionError, match="the demo model's objects alone"):
        make_judge("detector", Host(), "knife")


# -- the fit ------------------------------------------------


def _labels(tmp_path, count=40, seeds=2):
    scales = (0.0, -1.0, -3.0)
    samples = [Sample(f"prompt {k} knife {scales[k % 3]}", seed) for k in range(count) for seed in range(seeds)]
    return _labelling(Host(), tmp_path, samples).run()


def test_an_adapter_learns_what_its_features_tell(tmp_path):
    result = fit("tiny", ["knife"], _labels(tmp_path), Recipe(epochs=600))
    assert result.is_better
    assert result.validation_error < 0.01 < result.constant_error
    means = torch.full((1, 4, 2), -3.0)  # [rows, layers, n]
    assert result.adapter.scales(means, 1, 2).tolist() == [[pytest.approx(-3.0, abs=0.1)] * 2]
    assert result.adapter.info.label_range == (-3.0, 0.0)


def test_an_adapter_that_learns_nothing_says_so(tmp_path):
    labels = _labels(tmp_path)
    generator = torch.Generator().manual_seed(0)
    noise = [
        type(label)(label.sample, label.scale, True, None, torch.randn(4, 2, generator=generator)) for label in labels
    ]
    assert not fit("tiny", ["knife"], noise, Recipe(epochs=50)).is_better


def test_early_stopping_keeps_the_best_epoch(tmp_path):
    labels = _labels(tmp_path)
    stopped, whole = (fit("tiny", ["knife"], labels, Recipe(100, early_stopping=on)) for on in (True, False))
    assert whole.best_epoch == 99
    assert stopped.validation_error == min(held for _, held in stopped.history)


def test_the_same_seed_gives_the_same_adapter(tmp_path):
    labels = _labels(tmp_path)
    first, second = (fit("tiny", ["knife"], labels, Recipe(epochs=20)) for _ in range(2))
    for name, value in first.adapter.state_dict().items():
        assert torch.equal(value, second.adapter.state_dict()[name])


def test_no_prompt_is_in_both_parts(tmp_path):
    parts = {is_validation(f"prompt {k}", 0.25) for k in range(50)}
    assert parts == {True, False}
    assert 150 < sum(is_validation(f"prompt {k}", 0.25) for k in range(1000)) < 350
    with pytest.raises(OptionError, match="too few"):
        fit("tiny", ["knife"], _labels(tmp_path, count=1))


def test_targets_can_be_a_prompts_own_quantile(tmp_path):
    labels = list(islice(_labels(tmp_path, count=2, seeds=3), 6))
    own = [label.scale for label in labels]
    assert targets(labels, None) == own
    strongest = targets(labels, 1.0)
    assert strongest == [min(o.scale for o in labels if o.sample.prompt == label.sample.prompt) for label in labels]


# -- scales that are given ------------------------------------------------


def test_given_scales_come_in_order():
    rule = GivenScales(torch.tensor([0.0, -1.0, -2.0]))
    assert rule.scales(None, 2, 2).tolist() == [[0.0, 0.0], [-1.0, -1.0]]
    assert rule.scales(None, 1, 1).tolist() == [[-2.0]]
    with pytest.raises(OptionError, match="3 scales were given"):
        rule.scales(None, 1, 1)
    for bad in (1.0, -30.0, float("nan")):
        with pytest.raises(OptionError, match="must be from"):
            GivenScales(torch.tensor([bad, 0.0]))
