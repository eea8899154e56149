"""Labels in rounds: what a calibration says is taken as it is, what it does not know is looked at."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from test_training import Host, Judge

from lib_gie.core.scales.adapter import AdapterInfo
from lib_gie.training.calibration.presence import readings_at
from lib_gie.training.fitting import PAPER_RECIPE, PromptInputs, Recipe, fit_labels, targets
from lib_gie.training.labels import Label, Labelling, Sample
from lib_gie.training.presumption import Presumption, presume
from lib_gie.training.rounds import ROUND, Rounds, in_order
from lib_gie.training.search import GRID, Search

NAMING = [Sample(f"knife {k} {scale}", seed) for k, scale in enumerate((-0.5, -1.0) * 20) for seed in (1, 2)]
SURE = [Sample(f"a robbery {k} -0.75", 1, "implicit") for k in range(20)]
DOUBTFUL = [Sample(f"a duel {k} {scale}", seed, "implicit") for k, scale in enumerate((0.0, -0.5)) for seed in (1, 2)]
UNRELATED = [Sample(f"a cat {k} 0", 1, "unrelated") for k in range(60)]
CERTAIN = [*NAMING, *SURE, *UNRELATED]
ALL = [*NAMING, *SURE, *DOUBTFUL, *UNRELATED]
PRESENCE = {sample.prompt: 1.0 for sample in SURE} | {sample.prompt: 0.5 for sample in DOUBTFUL}
PRESUMED = Presumption(-1.1, PRESENCE)
RECIPE = Recipe(epochs=200)


def _rounds(host, folder, samples=ALL, presumed=PRESUMED, **options):
    labelling = Labelling(
        host, Judge(), "knife", samples, folder, search=lambda sample: presumed.search(sample, GRID), batch=5
    )
    return Rounds(labelling, presumed, PromptInputs(host, ["knife"]), RECIPE, **options)


def test_what_is_sure():
    assert PRESUMED.is_sure(NAMING[0])  # it names the concept
    assert PRESUMED.is_sure(SURE[0])
    assert not PRESUMED.is_sure(DOUBTFUL[0])
    assert not PRESUMED.is_sure(Sample("a prompt that was not read", 1, "implicit"))


def test_a_sure_prompt_takes_two_images_and_a_doubtful_one_a_search():
    sure = PRESUMED.search(NAMING[0], GRID)
    assert list(sure.grid) == [0.0, -1.1, *[scale for scale in GRID if scale < -1.1]]
    for shows in (True, False):
        sure.tell(sure.next_try(), shows)
    assert (sure.next_try(), sure.label) == (None, -1.1)
    assert PRESUMED.search(DOUBTFUL[0], GRID) == Search(GRID)


def test_a_sure_prompt_that_resists_goes_on_to_stronger_scales():
    search = PRESUMED.search(NAMING[0], GRID)
    while (number := search.next_try()) is not None:
        search.tell(number, search.grid[number] > -3.0)
    assert search.label == -3.0


def test_doubtful_prompts_come_first_then_both_kinds_in_turn():
    order = in_order(ALL, PRESUMED)
    assert order[: len(DOUBTFUL)] == [*DOUBTFUL[::2], *DOUBTFUL[1::2]]  # one image of each prompt first
    rest = order[len(DOUBTFUL) :]
    assert [sample.kind for sample in rest[:6]] == ["explicit", "implicit"] * 3
    assert len({sample.prompt for sample in rest[:40]}) == 40  # one image of each prompt before any second one
    assert sorted(order, key=str) == sorted({*ALL} - {*UNRELATED}, key=str)


def test_samples_that_a_judge_looks_at_anyway_come_before_others():
    known = NAMING[40:44]
    rest = [sample for sample in in_order(ALL, PRESUMED, first=known) if sample.kind == "explicit"]
    assert set(rest[:4]) == set(known)


def test_it_stops_where_the_labels_tell_nothing_new(tmp_path):
    host, begun = Host(), []
    labels = _rounds(host, tmp_path, CERTAIN).run(on_round=begun.append)
    labelled = [label for label in labels if label.images]
    assert begun == [1]
    assert len(labelled) == ROUND
    assert len(host.made) == sum(label.images for label in labelled) == 2 * ROUND
    assert {label.sample.prompt for label in labels} == {sample.prompt for sample in CERTAIN}
    presumed = [label for label in labels if not label.images and label.sample.kind != "unrelated"]
    assert {label.scale for label in presumed} == {-1.1}


def test_what_is_doubtful_is_labelled_by_images(tmp_path):
    labels = {label.sample: label for label in _rounds(Host(), tmp_path).run()}
    assert {sample: labels[sample].scale for sample in DOUBTFUL} == {
        sample: float(sample.prompt.split()[-1]) for sample in DOUBTFUL
    }


def test_it_does_not_stop_before_every_doubtful_prompt_was_looked_at(tmp_path):
    doubtful = [Sample(f"a duel {k} -0.75", seed, "implicit") for k in range(2 * ROUND + 3) for seed in (1, 2)]
    begun = []
    rounds = _rounds(Host(), tmp_path, [*NAMING, *doubtful, *UNRELATED])
    labels = rounds.run(on_round=begun.append)
    assert len(begun) >= 3
    assert {label.sample.prompt for label in labels if label.images} >= {sample.prompt for sample in doubtful}


def test_prompts_that_are_all_doubtful_are_labelled(tmp_path):
    """Without them there is too little to fit an adapter to."""
    doubtful = [Sample(f"a duel {k} {scale}", 1, "implicit") for k, scale in enumerate((-0.5, -1.0) * 6)]
    labels = _rounds(Host(), tmp_path, [*doubtful, *UNRELATED[:4]]).run()
    assert {label.sample for label in labels if label.images} == set(doubtful)


@pytest.mark.parametrize("prompt", ["a knife <lora:x:1>", "a knife AND a cat", "a (knife:0.4)", "[a knife:a cat:0.5]"])
def test_what_a_calibration_cannot_read_is_doubtful(prompt):
    assert not PRESUMED.is_sure(Sample(prompt, 1))


def test_it_goes_on_while_labels_make_the_adapter_better(tmp_path):
    """Prompts that resist the presumed scale, which the adapter can tell by what it reads of them."""
    resisting = [Sample(f"knife {k} -3", 1) for k in range(60)]
    begun = []
    labels = _rounds(Host(), tmp_path, [*resisting, *NAMING, *UNRELATED]).run(on_round=begun.append)
    assert len(begun) > 1
    assert sum(bool(label.images) for label in labels) > ROUND


def test_it_stops_when_told_to_and_goes_on_from_there(tmp_path):
    first, second, calls = Host(), Host(), []

    def should_stop():
        calls.append(1)
        return len(calls) > 4

    _rounds(first, tmp_path).run(should_stop)
    assert first.made
    whole = Host()
    (tmp_path / "anew").mkdir()
    assert _rounds(second, tmp_path).run() == _rounds(whole, tmp_path / "anew").run()
    assert sorted(first.made + second.made) == sorted(whole.made)


def test_a_round_is_shared_and_gathered(tmp_path):
    """Two processes in turn: each labels its half and gets the other's labels."""
    shares, others = [], {}
    (tmp_path / "alone").mkdir()
    alone = _rounds(Host(), tmp_path / "alone", CERTAIN)
    expected = {label.sample: label for label in alone.run() if label.images}

    def gather(own):
        if not isinstance(own[0], Label):  # whether it is better: the first process decides
            return own
        others.update({label.sample: label for label in own})
        return [expected[sample] for sample in shares[-1]]

    def share(chunk):
        shares.append(chunk)
        return chunk[::2]

    labels = _rounds(Host(), tmp_path, CERTAIN, share=share, gather=gather).run()
    assert set(others) == set(shares[0][::2])
    assert {label.sample for label in labels if label.images} == set(shares[0])


def _label(prompt, scale, kind="explicit", images=3):
    return Label(Sample(prompt, 1, kind), scale, True, None, images)


def test_targets_are_never_weaker_than_what_is_presumed():
    labels = [
        _label("weak", -0.5), _label("none", 0.0), PRESUMED.label(SURE[0]), _label("doubtful", -0.5, "implicit"),
        _label("not there", 0.0, "implicit"), _label("a cat", 0.0, "unrelated", 0),
    ]  # fmt: skip
    recipe = Recipe(margin=1.15)
    assert targets(labels, recipe, PRESUMED) == {
        "weak": -1.1, "none": -1.1, SURE[0].prompt: -1.1, "doubtful": -1.1, "not there": 0.0, "a cat": 0.0
    }  # fmt: skip


def test_targets_are_stronger_where_images_resist():
    labels = [_label(f"p {k}", -2.0) for k in range(3)] + [_label("weak", -0.5), PRESUMED.label(SURE[0])]
    wanted = targets(labels, Recipe(margin=1.5, floor=None), PRESUMED)
    assert wanted == {"p 0": -3.0, "p 1": -3.0, "p 2": -3.0, "weak": -1.1, SURE[0].prompt: -1.1}
    wanted = targets(labels, Recipe(margin=1.5, floor=0.9), PRESUMED)  # the floor is for all, and has no margin
    assert wanted == {"p 0": -3.0, "p 1": -3.0, "p 2": -3.0, "weak": -2.0, SURE[0].prompt: -2.0}


class Calibration:
    """What ``presume`` needs of one: presence is the last number of the prompt that was predicted for."""

    def __init__(self, **changes):
        self.info = dataclasses.replace(_Info(), **changes)

    def presence(self, inputs):
        return inputs.mean((1, 2)).clamp(0, 1)


@dataclasses.dataclass(frozen=True)
class _Info:
    strength: float = -1.25
    tells_presence: bool = True
    training: dict = dataclasses.field(default_factory=lambda: {"seen_gone": True})
    readings: tuple = ()


@pytest.mark.parametrize("training", [{"seen_gone": False}, {}])
def test_a_calibration_that_was_not_seen_to_erase_presumes_nothing(training):
    assert presume(Host(), Calibration(training=training), ALL) is None


def test_where_presence_cannot_be_told_only_naming_prompts_are_sure():
    found = presume(Host(), Calibration(tells_presence=False), ALL)
    assert found == Presumption(-1.25, {})
    assert found.is_sure(NAMING[0])
    assert not found.is_sure(SURE[0])


def test_presence_is_read_of_each_implied_prompt_once(monkeypatch):
    from lib_gie.training import presumption

    asked = []

    def read(counted, readings, prompts):
        asked.append(list(prompts))
        return torch.tensor([[float(len(prompt))] for prompt in prompts]) / 100

    monkeypatch.setattr(presumption, "read_prompts", read)
    found = presume(Host(), Calibration(), [*SURE, *SURE, *DOUBTFUL, *NAMING])
    assert asked == [list(dict.fromkeys(sample.prompt for sample in [*SURE, *DOUBTFUL]))]
    assert found.presence[SURE[0].prompt] == pytest.approx(len(SURE[0].prompt) / 100)


def test_adapters_say_how_much_was_presumed(tmp_path):
    from lib_gie.training.report import summary

    host = Host()
    rounds = _rounds(host, tmp_path, CERTAIN)
    labels = {"knife": rounds.run()}
    result = fit_labels(rounds.inputs, labels, RECIPE, {"knife": PRESUMED})
    figures = summary(result, labels)
    assert figures["images"] == len(host.made)
    assert figures["labelled"] == ROUND
    assert figures["presumed_prompts"] == 40 + 20 - ROUND
    assert isinstance(result.adapter.info, AdapterInfo)


@pytest.mark.parametrize("concepts", [1, 2])
def test_an_adapter_that_reads_what_is_predicted_has_a_narrow_one_for_the_same(tmp_path, concepts):
    host, names = Host(), ["knife", "wine"][:concepts]
    labels = {name: _rounds(host, tmp_path, CERTAIN).run() for name in names}
    adapter = fit_labels(PromptInputs(host, names), labels, RECIPE).adapter
    assert adapter.info.predicted == readings_at(host.latent_size)
    assert adapter.info.inputs == 4 + 2 * 4 * 2 * 3
    assert (adapter.narrow.info.inputs, adapter.narrow.info.predicted) == (4, ())
    assert adapter.narrow.info.concepts == adapter.info.concepts == tuple(names)
    paper = fit_labels(PromptInputs(host, names, predicted=False), labels, PAPER_RECIPE).adapter
    assert (paper.info.predicted, paper.narrow) == ((), None)
