"""From prompts to an adapter: the search, the labels on disk, the fit."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lib_gie.cli.train import demo_samples
from lib_gie.core.scales.adapter import load_adapter, save_adapter
from lib_gie.core.scales.fitted import GOOD_ENOUGH
from lib_gie.core.scales.scale_rules import GivenScales
from lib_gie.demo.world.splits import NAMES, load_split
from lib_gie.errors import OptionError
from lib_gie.training import judges
from lib_gie.training.fitting import (
    PAPER_RECIPE,
    Example,
    PromptInputs,
    Recipe,
    error,
    fit,
    fit_labels,
    half_of,
    is_validation,
    paper_recipe_with,
    targets,
)
from lib_gie.training.image_maker import Made
from lib_gie.training.judges import Verdict, make_judge
from lib_gie.training.judges.self_judge import best_threshold
from lib_gie.training.labels import CALIBRATION, Label, Labelling, Sample
from lib_gie.training.report import describe
from lib_gie.training.search import GRID, Search, most_tries

# -- the search ------------------------------------------------


@given(st.integers(0, len(GRID)))
def test_the_search_finds_the_weakest_scale_that_erases(gone_from):
    search = Search()
    while (number := search.next_try()) is not None:
        assert number not in search.shown
        search.tell(number, number < gone_from)
    assert search.label == GRID[min(gone_from, len(GRID) - 1)]
    assert search.erased == (gone_from < len(GRID))
    assert len(search.shown) <= most_tries(len(GRID)) <= 7
    assert len(search.shown) <= 4 or not 1 <= gone_from <= 4  # weak labels take few images


@given(st.lists(st.booleans(), min_size=len(GRID), max_size=len(GRID)), st.sets(st.integers(0, len(GRID) - 1)))
def test_the_search_ends_on_any_answers(answers, known):
    """Where a stronger scale brings the concept back, the label is a scale at which it was seen to be gone."""
    search = Search()
    for number in known:
        search.tell(number, answers[number])
    while (number := search.next_try()) is not None:
        assert number not in search.shown
        search.tell(number, answers[number])
    assert not answers[GRID.index(search.label)] or not search.erased


@pytest.mark.parametrize(
    ("size", "half"), [((8, 8), (4, 4)), ((64, 64), (32, 32)), ((128, 96), (64, 48)), ((72, 104), (32, 48))]
)
def test_half_a_size_is_one_that_unets_take(size, half):
    assert half_of(size) == half


# -- labels ------------------------------------------------


class Host:
    """The concept shows down to a scale that the prompt names: "knife -1.5", and its attention tells that scale."""

    base, description = "tiny", "first"
    latent_size, conditions = (2, 3), {"clip_skip": 1, "cfg": 4.0}

    def __init__(self):
        self.made: list[tuple[str, int, float]] = []

    def make(self, prompts, seeds, concept, scales):
        self.made += zip(prompts, seeds, scales.tolist(), strict=True)
        gone = torch.tensor([float(prompt.split()[-1]) for prompt in prompts])  # [B]
        shows = ((scales > gone) & (gone < 0)).float()  # [B]
        return Made(shows.view(-1, 1, 1, 1), torch.zeros(len(prompts), 4, 2, 2))

    def read(self, prompts, concepts, readings):
        assert all(reading.reads_prompt and reading.size == self.latent_size for reading in readings)
        cells = math.prod(self.latent_size) * 4  # of each reading of what is predicted
        gone = torch.tensor([float(prompt.split()[-1]) for prompt in prompts])  # [B]
        inputs = 4 + cells * (len(readings) - 1)
        return [gone[:, None, None].expand(-1, inputs, 2) for _ in concepts]  # [B, inputs, n] each


class Judge(judges.Judge):
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
    assert all(label.erased for label in labels)
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


def test_labels_go_on_after_a_line_that_is_no_entry(tmp_path):
    host = Host()
    expected = _labelling(host, tmp_path).run()
    path = next(tmp_path.glob("labels-*"))
    path.write_bytes(path.read_bytes() + b'\n{"prompt": "knife 0"}\n17\n\xff\xfe\n[]')
    again = Host()
    assert _labelling(again, tmp_path).run() == expected
    assert again.made == []


def test_verdicts_that_an_earlier_version_kept_are_read(tmp_path):
    """Its files: the identity, then an entry a line; one file for each process."""
    (tmp_path / "labels-af0d4bdde886.jsonl").write_text(
        '["knife", "tiny", "first", "by the first pixel"]\n\n'
        '{"prompt": "knife 0", "seed": 1, "scale": 0.0, "score": 0.0, "others": null}'
    )
    (tmp_path / "labels-af0d4bdde886.2.jsonl").write_text(
        '["knife", "tiny", "first", "by the first pixel"]\n\n'
        '{"prompt": "knife -0.5", "seed": 1, "scale": 0.0, "score": 1.0, "others": ["cat"]}\n'
        '{"prompt": "knife -0.5", "seed": 1, "scale": -0.75, "score": 0.0, "others": []}\n'
        '{"prompt": "knife -0.5", "seed": 1, "scale": -0.5, "score": 0.0, "others": []}'
    )
    host = Host()
    none, weak = _labelling(host, tmp_path, [Sample("knife 0", 1), Sample("knife -0.5", 1)]).run()
    assert host.made == []
    assert (none.scale, none.lost) == (0.0, None)
    assert (weak.scale, weak.lost) == (-0.5, ("cat",))


def test_labels_that_cannot_be_kept_are_said(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OptionError, match=r"labels cannot be kept in .*file"):
        _labelling(Host(), tmp_path / "file")


def test_an_adapter_is_whole_or_the_old_one(tmp_path, monkeypatch):
    """A full disk, or a process that ends while it writes: what was there stays."""
    path, adapter = tmp_path / "a.safetensors", fit("tiny", ["knife"], _examples(), Recipe(epochs=1)).adapter
    save_adapter(adapter, path)
    before = path.read_bytes()

    real = Path.write_bytes

    def full(self, data):
        real(self, b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space left"):
        save_adapter(adapter, path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


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


def test_by_hand_one_click_labels_an_image(tmp_path):
    asked = []

    def click(images, prompt, concept):
        asked.append((len(images), prompt, concept))
        return int((images.amax((1, 2, 3)) > 0.5).sum())

    samples = [Sample(f"knife {scale}", 1) for scale in (0, -1.5, -17)]
    judge = make_judge("hand", Host(), "knife", ask=click)
    labels = Labelling(Host(), judge, "knife", samples, tmp_path, batch=5).run()
    assert [(label.scale, label.erased) for label in labels] == [(0.0, True), (-1.5, True), (GRID[-1], False)]
    assert asked == [(len(GRID), sample.prompt, "knife") for sample in samples]
    Labelling(Host(), judge, "knife", samples, tmp_path, batch=5).run()
    assert len(asked) == 3


class Calibrated(Judge):
    """Knows what its scores mean only after it has been told."""

    calibrates = True
    threshold = None

    def calibrate(self, showing, absent):
        self.told = showing, absent
        self.threshold = best_threshold(showing, absent)

    def shows(self, verdict, before):
        return verdict.score > self.threshold


def test_a_judge_that_calibrates_sees_both_kinds_first(tmp_path):
    explicit = [Sample(f"knife {scale}", seed) for scale in (-0.5, -3) for seed in (1, 2)]
    unrelated = [Sample(f"a cat {number} 0", 1, "unrelated") for number in range(30)]
    host, judge = Host(), Calibrated()
    labels = Labelling(host, judge, "knife", [*explicit, *unrelated], tmp_path, batch=5).run()
    assert judge.told == ([1.0] * 4, [0.0] * CALIBRATION)
    assert {label.scale for label in labels if label.sample.kind == "explicit"} == {-0.5, -3.0}
    assert all(scale == 0 for _, _, scale in host.made[: 4 + CALIBRATION])
    again = Labelling(Host(), Calibrated(), "knife", [*explicit, *unrelated], tmp_path)
    assert again.done == len(explicit)  # all that it needs is on disk
    assert set(again.looked_at) == set(explicit)


def test_a_judge_is_calibrated_on_many_prompts_rather_than_many_seeds(tmp_path):
    samples = [Sample(f"knife {scale}", seed) for scale in GRID for seed in range(8)]
    labelling = Labelling(Host(), Calibrated(), "knife", samples, tmp_path)
    assert {sample.prompt for sample in labelling._showing} == {f"knife {scale}" for scale in GRID}
    assert len(labelling._showing) == CALIBRATION


@pytest.mark.parametrize(
    ("above", "below", "expected"),
    [([5, 6], [1, 2], 3.5), ([5, 6, 1], [0, 2], 3.5), ([4, 8], [], 4.0), ([3], [3], 3.0), ([1, 9], [0, 2, 3], 6.0)],
)
def test_thresholds(above, below, expected):
    assert best_threshold(above, below) == expected


def test_unknown_judges_are_refused():
    with pytest.raises(OptionError, match="there is no judge 'oracle'; choose one of detector, self"):
        make_judge("oracle", Host(), "knife")
    with pytest.raises(OptionError, match="not 'knife' on tiny; use the judge 'self'"):
        make_judge("detector", Host(), "knife")


def test_unrelated_prompts_need_no_images(tmp_path):
    host = Host()
    labels = _labelling(host, tmp_path, [Sample("a cat -3", 1, "unrelated"), Sample("knife -1", 1)]).run()
    assert {(label.sample.prompt, label.scale) for label in labels} == {("a cat -3", 0.0), ("knife -1", -1.0)}
    assert {prompt for prompt, _, _ in host.made} == {"knife -1"}


def test_processes_write_files_of_their_own_and_read_all(tmp_path):
    samples = [Sample(f"knife {scale}", 1) for scale in (0, -0.5, -3, -16)]
    for part in (0, 1):
        Labelling(Host(), Judge(), "knife", samples[part::2], tmp_path, part=part).run()
    assert len(list(tmp_path.iterdir())) == 2
    host = Host()
    labels = Labelling(host, Judge(), "knife", samples, tmp_path).run()
    assert (len(labels), host.made) == (4, [])


# -- the demo model's samples ------------------------------------------------


@pytest.mark.parametrize("concept", ["knife", "pencil sketch"])
def test_samples_of_the_demo_model(concept):
    """Those of the train split have its seeds; of the others there is one image each, and no seed has many of them."""
    prompts, seeds = load_split("train")
    of_split = {prompt.text for prompt in prompts}
    samples = demo_samples(concept, 3)
    found = [sample for sample in samples if sample.prompt in of_split]
    others = [sample for sample in samples if sample.prompt not in of_split]
    assert {sample.seed for sample in found} == set(seeds[:3])
    assert len(found) == 3 * len({sample.prompt for sample in found})
    assert len(others) == len({sample.prompt for sample in others}) > 1000
    assert not {sample.seed for sample in others} & {seed for name in NAMES for seed in load_split(name)[1]}
    showing = Counter(sample.seed for sample in others if sample.kind != "unrelated")
    assert max(showing.values()) <= 3 < 100 < len(showing)
    assert {sample.kind for sample in samples} == {"explicit", "implicit", "unrelated"}


def test_samples_of_a_concept_without_prompts():
    with pytest.raises(OptionError, match=r"no prompts for 'banana'; name one of knife, .*neon sign"):
        demo_samples("banana", 1)


# -- the fit ------------------------------------------------


def _examples(count=60) -> list[Example]:
    scales = (0.0, -1.0, -3.0)
    return [Example(f"prompt {k}", scales[k % 3], torch.full((4, 2), scales[k % 3])) for k in range(count)]


def test_an_adapter_learns_what_its_inputs_tell():
    result = fit("tiny", ["knife"], _examples(), Recipe(epochs=600, input_noise=0.0))
    assert result.is_better
    assert result.validation_error < 0.01 < result.constant_error
    inputs = torch.full((1, 4, 2), -3.0)  # [rows, inputs, n]
    assert result.adapter.scales(inputs, 1, 2).tolist() == [[pytest.approx(-3.0, abs=0.1)] * 2]
    assert result.adapter.info.label_range == (-3.0, 0.0)
    assert result.adapter.reading.reads_prompt


@pytest.mark.parametrize(("changes", "told"), [({}, True), ({"input_noise": 0.5}, False)])
def test_the_noise_on_inputs_leaves_apart_what_is_alike(changes, told):
    """A concept, what looks like it, and the rest. Much noise makes one of the first two."""
    places = {1.0: -1.0, 0.8: 0.0, 0.0: 0.0}  # input: label
    examples = [
        Example(f"{number} {place}", scale, torch.full((1, 1), place))
        for number in range(40)
        for place, scale in places.items()
    ]
    adapter = fit("tiny", ["knife"], examples, Recipe(epochs=1000, **changes)).adapter
    scale, false = adapter.scales(torch.tensor([[[1.0]], [[0.8]]]), 2, 1).flatten().tolist()
    assert (scale < -0.9 and false > -0.1) is told


def test_an_adapter_that_learns_nothing_says_so():
    generator = torch.Generator().manual_seed(0)
    noise = [Example(one.prompt, one.scale, torch.randn(4, 2, generator=generator)) for one in _examples()]
    assert not fit("tiny", ["knife"], noise, Recipe(epochs=50)).is_better


def test_early_stopping_keeps_the_best_epoch():
    stopped, whole = (fit("tiny", ["knife"], _examples(), Recipe(100, early_stopping=on)) for on in (True, False))
    assert whole.best_epoch == 99
    assert stopped.validation_error == min(held for _, held in stopped.history)


def test_the_same_seed_gives_the_same_adapter():
    first, second = (fit("tiny", ["knife"], _examples(), Recipe(epochs=20)) for _ in range(2))
    for name, value in first.adapter.state_dict().items():
        assert torch.equal(value, second.adapter.state_dict()[name])


def test_no_prompt_is_in_both_parts():
    parts = {is_validation(f"prompt {k}", 0.25) for k in range(50)}
    assert parts == {True, False}
    assert 150 < sum(is_validation(f"prompt {k}", 0.25) for k in range(1000)) < 350
    with pytest.raises(OptionError, match="too few"):
        fit("tiny", ["knife"], _examples(1))


def _label(prompt: str, scale: float, seed: int) -> Label:
    return Label(Sample(prompt, seed), scale, True, None)


@pytest.mark.parametrize(
    ("quantile", "floor", "expected"),
    [
        (1.0, None, {"a": -2.0, "b": -0.5, "c": 0.0}),
        (0.5, None, {"a": -1.0, "b": -0.5, "c": 0.0}),
        (0.5, 1.0, {"a": -2.0, "b": -2.0, "c": 0.0}),
        (1.0, 0.75, {"a": -2.0, "b": -1.0, "c": 0.0}),
    ],
)
def test_targets(quantile, floor, expected):
    """A prompt that never shows the concept stays at 0; the floor is a quantile of the labels where it shows."""
    scales = {"a": (-0.5, -1.0, -2.0), "b": (-0.5, -0.5), "c": (0.0, 0.0)}
    labels = [_label(prompt, scale, seed) for prompt, own in scales.items() for seed, scale in enumerate(own)]
    recipe = Recipe(quantile=quantile, floor=floor, names_count=False, margin=1.0)
    assert targets(labels, recipe) == expected
    doubled = {prompt: 2 * scale for prompt, scale in expected.items()}
    assert targets(labels, dataclasses.replace(recipe, margin=2.0)) == doubled


def test_the_recipes_differ_in_their_parts_alone():
    """With all parts of the own recipe, the paper's is the own one."""
    assert paper_recipe_with([]) == PAPER_RECIPE
    assert paper_recipe_with(["label", "inputs", "loss", "regularisation", "steepness"]) == Recipe() != PAPER_RECIPE
    assert paper_recipe_with(["loss"]) == dataclasses.replace(
        PAPER_RECIPE, balanced=True, overshoot=0.1, one_sided=True
    )


def test_a_prompt_that_names_the_concept_counts_even_if_its_images_lack_it():
    labels = [_label("a", -1.0, 1), _label("b", 0.0, 1), Label(Sample("c", 1, "implicit"), 0.0, True, None)]
    assert targets(labels, Recipe(margin=1.0)) == {"a": -1.0, "b": -1.0, "c": 0.0}
    assert targets(labels, Recipe(margin=1.0, names_count=False)) == {"a": -1.0, "b": 0.0, "c": 0.0}


@pytest.mark.parametrize(
    ("recipe", "expected"),
    [
        (PAPER_RECIPE, (4 + 1 + 4 + 0.25 + 1) / 5),
        (dataclasses.replace(PAPER_RECIPE, one_sided=True), (0 + 1 + 4 + 0.25 + 0) / 5),
        (dataclasses.replace(PAPER_RECIPE, overshoot=0.5), (4 + 1 + 4 + 0.125 + 0.5) / 5),
        (dataclasses.replace(PAPER_RECIPE, balanced=True), ((4 + 1) + (4 + 0.25 + 1) * 2 / 3) / 4),
    ],
)
def test_what_counts_as_an_error(recipe, expected):
    """Above 0 and below the strongest label predictions are clamped; too strong is not as bad as too weak."""
    wanted = torch.tensor([0.0, 0.0, -1.0, -1.0, -2.0])
    predicted = torch.tensor([2.0, -1.0, 1.0, -1.5, -3.0])
    assert float(error(predicted, wanted, -2.0, recipe)) == pytest.approx(expected)


def test_many_prompts_without_the_concept_do_not_outweigh_those_with_it():
    """Inputs that tell nothing: the best constant is the label where both kinds weigh the same in sum."""
    examples = [Example(f"p {k}", -1.0 if k % 10 == 0 else 0.0, torch.zeros(4, 1)) for k in range(400)]
    symmetric = {"overshoot": 1.0, "one_sided": False, "epochs": 1}
    assert fit("tiny", ["knife"], examples, Recipe(**symmetric)).constant == pytest.approx(-0.5, abs=0.02)
    plain = fit("tiny", ["knife"], examples, Recipe(balanced=False, **symmetric))
    assert plain.constant == pytest.approx(-0.1, abs=0.03)


def test_a_steep_adapter_lifts_weak_answers_up_to_the_weakest_label():
    """The MLP is the same; answers of nothing stay nothing, and stronger ones stay as they are."""
    generator = torch.Generator().manual_seed(1)
    examples = [
        Example(f"p {k}", (0.0, -1.0, -2.0)[k % 3], torch.randn(4, 1, generator=generator) + k % 3) for k in range(90)
    ]
    plain, steep = (
        fit("tiny", ["knife"], examples, Recipe(epochs=200, steepness=factor)).adapter for factor in (1.0, 2.0)
    )
    inputs = torch.stack([example.inputs for example in examples])  # [90, 4, 1]
    said, more = plain.own_scales(inputs), steep.own_scales(inputs)
    assert torch.allclose(more, torch.minimum(said, (2 * said).clamp(min=-1.0)), atol=1e-6)
    assert bool((more < said - 0.1).any())
    assert bool((more < -1.1).any())
    assert (plain.info.lift, steep.info.lift) == ((1.0, 0.0), (2.0, -1.0))
    assert plain.info.label_range == steep.info.label_range == (-2.0, 0.0)


def test_from_labels_to_an_adapter(tmp_path):
    samples = [Sample(f"prompt {k} knife {(0.0, -1.0, -3.0)[k % 3]}", 1) for k in range(30)]
    host = Host()
    labels = {"knife": _labelling(host, tmp_path, samples).run()}
    result = fit_labels(PromptInputs(host, ["knife"]), labels, Recipe(epochs=400, floor=None))
    assert result.is_better
    adapter = describe(result, labels, host, {"knife": Judge()}, Recipe(), {"command": "train"})
    save_adapter(adapter, tmp_path / "a.safetensors")
    read = load_adapter(tmp_path / "a.safetensors")
    assert read.info.training["labelled"] == 30
    assert read.info.training["images"] == len(host.made) > 30
    assert read.info.training["shown_without_erasure"] == 20
    assert read.info.validation["better_than_constant"] is True
    assert read.info.validation[GOOD_ENOUGH] is True


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
