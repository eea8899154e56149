"""Calibrations: the discriminant, presence and strength, and the rule in real UNet calls."""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
import torch
from test_precision import autocast, mode  # noqa: F401 -- a fixture
from tiny import make_batch, make_concept

from lib_gie.core import readings
from lib_gie.core.call import UNetCall
from lib_gie.core.encoding import EncodedConcept
from lib_gie.core.erasure import Erasure, Target
from lib_gie.core.kept_answers import KeptAnswers
from lib_gie.core.readings import cells
from lib_gie.core.recorder import MOST_CELLS, Reading, count_cells
from lib_gie.core.runner import UNetRunner
from lib_gie.core.scales.adapter import Adapter, AdapterInfo
from lib_gie.core.scales.calibrated import (
    Calibration,
    CalibrationInfo,
    Discriminant,
    fit_discriminant,
    held_out_scores,
)
from lib_gie.core.scales.calibrated.discriminant import FOLDS, SHRINKAGE
from lib_gie.core.scales.scale_rules import (
    MISREAD,
    MOST_EMPHASIS,
    UNKNOWN_PROMPT,
    FixedScale,
    Guarded,
    PromptFacts,
    guarded,
)
from lib_gie.core.session import attach, read_attention
from lib_gie.errors import AdapterError, OptionError
from lib_gie.randomness import undrawn

KNIFE, WINE, GUN = (
    make_concept(text, count, seed=seed) for text, count, seed in (("knife", 1, 5), ("red wine", 2, 6), ("gun", 1, 7))
)
FREE, NAMING = PromptFacts(frozenset()), PromptFacts(frozenset({"knife"}))
SIZE = (8, 8)
READINGS = (Reading(noise=0, size=SIZE, predicted=True), Reading(noise=1, size=SIZE, timestep=700, predicted=True))
INPUTS = 2 * 4 * 8 * 8


def calibration(discriminant: Discriminant | None = None, concept: str = "knife", **changes) -> Calibration:
    """Without a discriminant its score is the first input."""
    values = {"strength": -2.0, "ramp": (0.25, 0.75), "readings": READINGS, "inputs": INPUTS} | changes
    info = CalibrationInfo("width-24", "0123", (concept,), **values)
    if discriminant is None:
        first = torch.zeros(info.inputs)
        first[0] = 1.0
        discriminant = Discriminant(torch.zeros(info.inputs), torch.ones(info.inputs), first)
    return Calibration(info, discriminant)


def scored(*scores: float) -> torch.Tensor:
    """Inputs that get these scores: float32 [rows, INPUTS, 1]."""
    inputs = torch.zeros(len(scores), INPUTS, 1)
    inputs[:, 0, 0] = torch.tensor(scores)
    return inputs


# -- the discriminant ------------------------------------------------


def draw(count: int, inputs: int, shift: float = 0.0, seed: int = 0) -> torch.Tensor:
    """Float32 [count, inputs]: correlated, the first input shifted and the last the same for all."""
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(inputs, inputs, generator=torch.Generator().manual_seed(99)) * inputs**-0.5
    found = torch.randn(count, inputs, generator=generator) @ (mixing + torch.eye(inputs))
    found[:, 0] += shift
    found[:, -1] = 0.5
    return found


def literal_lda(neutral: np.ndarray, naming: np.ndarray) -> np.ndarray:
    """Fisher's direction for standardised inputs with the whole covariance matrix, so that naming ones score 1."""
    mean, spread = neutral.mean(0), neutral.std(0, ddof=1)
    varies = spread > 1e-4
    spread = np.where(varies, spread, 1.0)
    absent, present = ((part - mean) / spread * varies for part in (neutral, naming))
    within = np.concatenate([absent, present - present.mean(0)])
    covariance = within.T @ within / len(within)
    shrunk = (1 - SHRINKAGE) * covariance + SHRINKAGE * np.diag(np.diag(covariance)) + 1e-4 * np.eye(len(mean))
    direction = np.linalg.inv(shrunk) @ present.mean(0)
    return direction / (direction @ present.mean(0))


@pytest.mark.parametrize(("inputs", "count"), [(6, 80), (60, 30)])
def test_the_discriminant_is_fishers_with_a_shrunk_covariance(inputs, count):
    neutral, naming = draw(count, inputs), draw(count // 2, inputs, 2.0, seed=1)
    found = fit_discriminant(neutral, naming)
    expected = literal_lda(neutral.double().numpy(), naming.double().numpy())
    np.testing.assert_allclose(found.direction.numpy(), expected, rtol=1e-3, atol=1e-4)
    assert found.direction[-1] == 0  # the same for all prompts


def test_neutral_prompts_score_0_and_naming_ones_1_on_the_average():
    neutral, naming = draw(80, 20), draw(40, 20, 2.0, seed=1)
    found = fit_discriminant(neutral, naming)
    assert found.scores(neutral).mean().item() == pytest.approx(0, abs=1e-4)
    assert found.scores(naming).mean().item() == pytest.approx(1, abs=1e-4)


def test_held_out_scores_are_those_of_a_fit_without_the_prompt():
    neutral, naming = draw(40, 60), draw(24, 60, 2.0, seed=1)
    groups = torch.tensor([-1, *range(0, 40, 2), -1, -1, 39])  # 21 of the 24 were made from a neutral one
    absent, present = held_out_scores(neutral, naming, groups)
    assert (absent.shape, present.shape) == ((40,), (21,))
    for number, score in ((0, absent[0]), (13, absent[13])):
        kept = [k for k in range(40) if k % FOLDS != number % FOLDS]
        others = [k for k, of in enumerate(groups.tolist()) if of < 0 or of % FOLDS != number % FOLDS]
        expected = fit_discriminant(neutral[kept], naming[others]).scores(neutral[number : number + 1])
        torch.testing.assert_close(score, expected[0])
    kept = [k for k in range(40) if k % FOLDS != 39 % FOLDS]
    others = [k for k, of in enumerate(groups.tolist()) if of < 0 or of % FOLDS != 39 % FOLDS]
    torch.testing.assert_close(present[-1], fit_discriminant(neutral[kept], naming[others]).scores(naming[-1:])[0])
    assert fit_discriminant(neutral, naming).scores(neutral).std() < absent.std()  # seen ones lie too close together


def test_prompts_that_are_all_alike_score_0():
    """A UNet that does not look at the text: there is no direction, and no number that is not finite."""
    same = torch.full((40, 6), 0.5)
    assert torch.equal(fit_discriminant(same, same[:10]).scores(same), torch.zeros(40))


def test_predicted_noise_becomes_means_of_cells():
    predicted = torch.randn(2, 4, 40, 24, generator=torch.Generator().manual_seed(0)).half()
    found = cells(predicted)
    assert (found.shape, found.dtype) == ((2, count_cells((40, 24), 4)), torch.float32)
    by_cell = found.view(2, 4, MOST_CELLS, MOST_CELLS)
    torch.testing.assert_close(by_cell[:, :, 0, 0], predicted[:, :, :3, :2].float().mean((2, 3)))
    assert cells(predicted, (8, 96)).shape == (2, count_cells((8, 96), 4)) == (2, 4 * 8 * 16)
    small = torch.randn(1, 4, 5, 7)
    assert torch.equal(cells(small), small.flatten(1))


# -- presence and strength ------------------------------------------------


def test_presence_rises_along_the_ramp():
    found = calibration().presence(scored(-3.0, 0.25, 0.375, 0.5, 0.75, 9.0))
    assert found.tolist() == [0.0, 0.0, 0.25, 0.5, 1.0, 1.0]


def test_w_is_the_strength_times_the_presence():
    found = calibration().scales(scored(0.0, 0.5, 1.0), 3, 2)
    assert found.tolist() == [[0.0, 0.0], [-1.0, -1.0], [-2.0, -2.0]]
    assert not torch.signbit(found[0]).any()  # an infotext would say -0
    with pytest.raises(AdapterError, match="got nothing"):
        calibration().scales(None, 1, 1)


def test_a_concept_that_cannot_be_told_is_present_everywhere():
    blind = calibration(tells_presence=False)
    assert blind.scales(scored(-3.0, 0.0, float("nan")), 3, 1).tolist() == [[-2.0]] * 3
    assert "erased in full" in blind.info.warning
    assert blind.weights_digest != calibration().weights_digest


@pytest.mark.parametrize(
    ("training", "said"),
    [
        ({}, ""),
        ({"shows": True, "seen_gone": True}, ""),
        ({"shows": True, "seen_gone": False}, "may still show"),
        ({"shows": False, "seen_gone": False}, "was not checked"),
        ({"shows": "x", "seen_gone": [0]}, ""),
    ],
)
def test_what_users_are_told(training, said):
    warning = calibration(training=training).info.warning
    assert said in warning
    assert bool(warning) is bool(said)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_scores_that_are_not_finite_give_no_scale(value):
    with pytest.raises(AdapterError, match="calibrate it again"):
        calibration().scales(scored(0.0, value), 2, 1)


def test_another_number_of_inputs_is_refused():
    with pytest.raises(AdapterError, match=f"reads {INPUTS}"):
        calibration().scales(torch.zeros(1, 5, 1), 1, 1)


def test_a_calibration_is_for_its_concept_and_family():
    found = calibration(concept="Van Gogh")
    assert found.is_for("van gogh")
    assert not found.is_for("gogh")
    assert found.fits("width-24", [2])
    assert not found.fits("sdxl", [2])
    with pytest.raises(AdapterError, match="calibrate the concept on this model"):
        found.check_model("sdxl", [2])


@pytest.mark.parametrize(
    "changes",
    [
        {"strength": 0.0}, {"strength": -21.0}, {"strength": float("nan")}, {"ramp": (0.5, 0.5)},
        {"ramp": (0.5, float("inf"))}, {"inputs": INPUTS + 1}, {"readings": ()}, {"readings": READINGS * 5},
        {"readings": (Reading(noise=0, size=SIZE),)}, {"readings": (Reading(size=SIZE, predicted=True),)},
        {"readings": (Reading(noise=0, predicted=True),)},
    ],
)  # fmt: skip
def test_descriptions_that_make_no_sense_are_refused(changes):
    with pytest.raises(AdapterError):
        calibration(**changes)


# -- in a UNet's calls ------------------------------------------------

CONTEXT = make_batch().context[[0, 2]]
LATENTS = make_batch().latents[[0, 2]]


@dataclass(frozen=True, eq=False)
class Counting(Calibration):
    """Keeps what it was asked with."""

    asked: list[torch.Tensor] = field(default_factory=list)

    def scales(self, inputs, rows, tokens):
        self.asked.append(inputs)
        return super().scales(inputs, rows, tokens)


def fitted(unet, context: torch.Tensor, other: torch.Tensor, **changes) -> Counting:
    """A calibration whose score is 1 for a context [77, D], and 0 for another."""
    found = []
    for states in (other, context):
        call = torch.zeros(1, 4, *SIZE), torch.zeros(1), states[None]
        found.append(torch.cat([read_attention(unet.module, [KNIFE], one, call)[0][0, :, 0] for one in READINGS]))
    neutral, naming = found
    apart = naming - neutral
    direction = apart / (apart @ apart)
    plain = calibration(Discriminant(neutral, torch.ones(INPUTS), direction), **changes)
    return Counting(plain.info, plain.discriminant)


class Runs:
    """Keeps the number of rows of each call of a UNet."""

    def __init__(self, unet):
        self.rows: list[int] = []
        self._handle = unet.module.register_forward_pre_hook(self._count, with_kwargs=True)

    def _count(self, module, args, kwargs):
        self.rows.append(len(args[0] if args else kwargs["sample"]))

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self._handle.remove()


@pytest.fixture
def other() -> torch.Tensor:
    """A context [77, D] in which the concept is not present."""
    return make_batch(seed=3).context[0]


def run(unet, erasure, latents=LATENTS, context=CONTEXT, steps=1, rows=(0, None)):
    with torch.no_grad():
        for _ in range(steps):
            erasure.begin(rows, 0.0)
            found = unet(latents, torch.full((len(latents),), 500), context)
    return found


def test_a_prompt_is_read_once(unet, other):
    rule = fitted(unet, CONTEXT[0], other)
    erasure = Erasure([Target(KNIFE, rule)])
    with attach(unet.module, erasure), Runs(unet) as runs:
        run(unet, erasure, steps=3)
    assert runs.rows == [2, 2, 2, 2]  # two readings of the one conditional row at once, then the host's own calls
    (inputs,) = rule.asked
    assert inputs.shape == (1, INPUTS, 1)
    assert erasure.scales[0][0].tolist() == [pytest.approx(-2.0)]


@pytest.mark.parametrize("timestep", [500, 500.0, torch.tensor(500), torch.full((2,), 500)], ids=str)
@pytest.mark.parametrize("alike", [True, False])
def test_readings_at_once_are_those_one_by_one(unet, timestep, alike):
    """Whatever the host gives as timestep: each row has that of its reading."""
    context = CONTEXT[[0, 0]] if alike else CONTEXT
    runner, plain = UNetRunner(unet.module), UNetCall((LATENTS, torch.full((2,), 500), context), {})
    runner.attach()
    one_by_one = [readings.read(runner, plain, (), 0.0, kind, undrawn, False) for kind in READINGS]
    given = UNetCall((LATENTS, timestep, context), {})
    with Runs(unet) as runs:
        together = readings.read_together(runner, dict.fromkeys(READINGS, given), undrawn)
    runner.detach()
    assert runs.rows == [2 if alike else 4]
    for kind, expected in zip(READINGS, one_by_one, strict=True):
        torch.testing.assert_close(together[kind].predicted, expected.predicted, atol=1e-5, rtol=1e-5)
    first, second = (one.predicted for one in one_by_one)
    assert (first - second).abs().max() > 1e-2


def test_whether_it_can_be_read_is_asked_once(unet, other, monkeypatch):
    """For each reading of a prompt, and not again in the run of the UNet for it: all layers are looked at for that."""
    asked, inner = [], readings._is_replaced
    monkeypatch.setattr(readings, "_is_replaced", lambda runner: asked.append(runner) or inner(runner))
    erasure = Erasure([Target(KNIFE, fitted(unet, CONTEXT[0], other))])
    asked.clear()
    with attach(unet.module, erasure), Runs(unet) as runs:
        run(unet, erasure)
    assert runs.rows == [2, 2]
    assert len(asked) == len(READINGS)


def test_what_was_read_is_kept_until_it_is_cleared(unet, other):
    """As between the batches of a job, which have an erasure each; another prompt is another reading."""
    answers, found = KeptAnswers(), []
    for context in (CONTEXT, CONTEXT, torch.stack([other, CONTEXT[1]]), CONTEXT):
        erasure = Erasure([Target(KNIFE, fitted(unet, CONTEXT[0], other))], answers=answers)
        with attach(unet.module, erasure), Runs(unet) as runs:
            run(unet, erasure, context=context)
        found.append((runs.rows, erasure.scales[0][0].tolist()))
    (first, w), (again, same), (changed, _), (back, _) = found
    assert (first, again, changed, back) == ([2, 2], [2], [2, 2], [2])
    assert w == same
    erasure.read_again()
    with attach(unet.module, erasure), Runs(unet) as runs:
        run(unet, erasure)
    assert runs.rows == [2, 2]


def test_a_prompt_without_the_concept_is_left_alone(unet, other):
    context = torch.stack([other, CONTEXT[1]])
    erasure = Erasure([Target(KNIFE, fitted(unet, CONTEXT[0], other))])
    erasure.facts[0] = FREE
    plain = unet(LATENTS, torch.full((2,), 500), context)
    with attach(unet.module, erasure):
        assert torch.equal(run(unet, erasure, context=context), plain)
    assert erasure.scales[0][0].tolist() == [0.0]


def test_a_prompt_that_changes_is_read_again_and_w_gets_no_weaker(unet, other):
    rule = fitted(unet, CONTEXT[0], other)
    erasure = Erasure([Target(KNIFE, rule)])
    without = torch.stack([other, CONTEXT[1]])
    with attach(unet.module, erasure):
        run(unet, erasure, context=without, steps=2)
        assert erasure.scales[0][0].tolist() == [0.0]
        run(unet, erasure, steps=2)
        assert erasure.scales[0][0].tolist() == [pytest.approx(-2.0)]
        assert len(rule.asked) == 2
        run(unet, erasure, context=without)
    assert len(rule.asked) == 3
    assert erasure.scales[0][0].tolist() == [pytest.approx(-2.0)]


def test_images_of_one_prompt_are_read_together(unet, other):
    rule = fitted(unet, CONTEXT[0], other)
    erasure = Erasure([Target(KNIFE, rule)])
    context = torch.stack([CONTEXT[0], other, CONTEXT[0], CONTEXT[1]])
    with attach(unet.module, erasure), Runs(unet) as runs:
        run(unet, erasure, torch.randn(4, 4, *SIZE), context, rows=(0, 1, 2, None))
    assert runs.rows == [4, 4]  # two prompts in each of two readings
    assert [round(float(erasure.scales[row][0]), 3) for row in range(3)] == [-2.0, 0.0, -2.0]
    assert torch.equal(rule.asked[0][0], rule.asked[0][2])


def test_both_readings_are_what_the_unet_predicts(unet, other):
    rule = fitted(unet, CONTEXT[0], other)
    with attach(unet.module, erasure := Erasure([Target(KNIFE, rule)])):
        run(unet, erasure)
    expected = []
    for reading in READINGS:
        noise = torch.randn(1, 4, *SIZE, generator=torch.Generator().manual_seed(reading.noise))
        expected.append(unet(noise, torch.tensor([reading.timestep]), CONTEXT[:1]).flatten(1))
    torch.testing.assert_close(rule.asked[0][..., 0], torch.cat(expected, 1))


@pytest.mark.parametrize("concept_pass", ["fused", "separate"])
def test_unconditional_rows_stay_bit_identical(unet, other, concept_pass):
    rule = fitted(unet, CONTEXT[0], other)
    plain = unet(LATENTS, torch.full((2,), 500), CONTEXT)
    with attach(unet.module, erasure := Erasure([Target(KNIFE, rule)], concept_pass=concept_pass)):
        erased = run(unet, erasure)
    assert torch.equal(erased[1], plain[1])
    assert (erased[0] - plain[0]).abs().max() > 1e-3


@pytest.mark.parametrize("concept_pass", ["fused", "separate"])
def test_a_calibration_erases_as_a_fixed_scale_of_its_strength_does(unet, other, concept_pass):
    found = []
    for rule in (fitted(unet, CONTEXT[0], other, ramp=(0.25, 0.5)), FixedScale(-2.0)):
        with attach(unet.module, erasure := Erasure([Target(KNIFE, rule)], concept_pass=concept_pass)):
            found.append(run(unet, erasure))
    assert torch.equal(*found)


@pytest.mark.parametrize(("facts", "w"), [(FREE, 0.0), (NAMING, -2.0), (PromptFacts(), -2.0)])
def test_a_prompt_that_names_the_concept_has_it_in_full(unet, other, facts, w):
    """Also one of which nothing is known."""
    erasure = Erasure([Target(KNIFE, Guarded(fitted(unet, CONTEXT[0], other), -2.0))])
    erasure.facts[0] = facts
    with attach(unet.module, erasure):
        run(unet, erasure, context=torch.stack([other, CONTEXT[1]]))
    assert erasure.scales[0][0].tolist() == [w]
    assert erasure.replacements(0) == (None,)  # the own words are a part of the method


@pytest.mark.parametrize(
    ("facts", "w"),
    [
        (FREE, 0.0), (NAMING, -2.0), (PromptFacts(frozenset(), unlike="it has a LoRA"), -3.0), (UNKNOWN_PROMPT, -3.0),
        (PromptFacts(frozenset({"knife"}), unlike="it has a LoRA"), -3.0),
    ],
)  # fmt: skip
def test_where_plain_prompts_alone_count_others_have_the_stronger_scale(unet, other, facts, w):
    """The strength was found on plain prompts, so for others the family's fixed scale is behind it."""
    rule = guarded(fitted(unet, CONTEXT[0], other), -3.0, plain_only=True)
    erasure = Erasure([Target(KNIFE, rule)])
    erasure.facts[0] = facts
    with attach(unet.module, erasure):
        run(unet, erasure, context=torch.stack([other, CONTEXT[1]]))
    assert erasure.scales[0][0].tolist() == [w]
    assert bool(erasure.replacements(0)[0]) is (w == -3.0)


def test_where_plain_prompts_alone_count_the_strength_may_be_the_stronger(unet, other):
    rule = guarded(fitted(unet, CONTEXT[0], other), -1.0, plain_only=True)
    assert (rule.fixed, rule.unknown) == (-2.0, -2.0)
    assert guarded(fitted(unet, CONTEXT[0], other), -3.0).unknown == -2.0
    info = AdapterInfo("sd1", 16, ("knife",), (-4.0, 0.0))
    assert not guarded(Adapter(info), -3.0, plain_only=True).is_strict


def test_a_long_context_has_the_stronger_scale_as_well(unet, other):
    rule = guarded(fitted(unet, CONTEXT[0], other), -3.0, plain_only=True)
    erasure = Erasure([Target(KNIFE, rule)])
    erasure.facts[0] = FREE
    with attach(unet.module, erasure):
        run(unet, erasure, context=torch.cat([torch.stack([other, CONTEXT[1]])] * 2, 1))
    assert erasure.scales[0][0].tolist() == [-3.0]


@pytest.mark.parametrize("size", [(8, 8), (16, 8), (12, 20)])
def test_a_prompt_that_had_to_be_read_in_another_way_counts_in_full(unet, other, size):
    """Another extension's forward may show the UNet more than the text, and count on the image's size."""
    rule = fitted(unet, CONTEXT[0], other)
    erasure = Erasure([Target(KNIFE, Guarded(rule, -2.0))])
    erasure.facts[0] = FREE
    inner = unet.module.forward
    unet.module.forward = lambda *args, **kwargs: inner(*args, **kwargs)
    try:
        with attach(unet.module, erasure):
            run(unet, erasure, torch.randn(2, 4, *size), torch.stack([other, CONTEXT[1]]))
    finally:
        del unet.module.forward
    assert erasure.scales[0][0].tolist() == [-2.0]
    assert erasure.replacements(0)[0].reason == MISREAD


@pytest.mark.parametrize("size", [(8, 8), (16, 8), (12, 20)])
def test_every_size_is_read_at_the_calibrations_own(unet, other, size):
    rule = fitted(unet, CONTEXT[0], other)
    with attach(unet.module, erasure := Erasure([Target(KNIFE, rule)])):
        run(unet, erasure, torch.randn(2, 4, *size))
    assert erasure.scales[0][0].tolist() == [pytest.approx(-2.0)]


def resolved(facts, *, weight=1.0, strength=1.0, floor=0.0, score=0.5) -> float:
    concept = EncodedConcept(replace(KNIFE.concept, weight=weight), KNIFE.states, KNIFE.tokens)
    erasure = Erasure([Target(concept, Guarded(calibration(), -2.0), floor)], strength=strength)
    erasure.facts[0] = facts
    erasure.resolved.set_scales([0], torch.randn(1, 77, 24), SIZE, {0: scored(score)})
    return round(float(erasure.scales[0][0]), 4)


def test_weight_strength_emphasis_and_floor():
    assert resolved(FREE) == -1.0
    assert resolved(FREE, weight=0.5, strength=3.0) == -1.5
    assert resolved(FREE, strength=0.0) == 0.0
    assert resolved(PromptFacts(frozenset(), 2.0)) == -4.0
    assert resolved(PromptFacts(frozenset({"knife"}), 2.0)) == -8.0
    assert resolved(FREE, floor=-1.5) == resolved(FREE, floor=-1.5, score=0.0, strength=0.0) == -1.5
    assert resolved(NAMING, floor=-1.5) == -2.0
    with pytest.raises(OptionError, match=f"up to {MOST_EMPHASIS:g}"):
        resolved(PromptFacts(frozenset(), MOST_EMPHASIS + 0.1))
    assert resolved(PromptFacts(frozenset(), MOST_EMPHASIS + 0.1), score=0.0) == 0.0  # there is nothing to erase


def test_an_adapter_a_calibration_and_a_fixed_scale_together(unet, other):
    """Each has the w that it has alone; the readings of two calibrations are shared."""
    heads = [module.heads for module in unet.cross_attention]
    adapter = Adapter(AdapterInfo("width-24", sum(heads), ("red wine",), (-9.0, 0.0), Reading(True, 3))).eval()
    with torch.no_grad():
        adapter.out.bias.fill_(-0.5)
    rule = fitted(unet, CONTEXT[0], other)
    targets = [Target(KNIFE, rule), Target(WINE, adapter), Target(GUN, FixedScale(-1.5)), Target(GUN, rule)]
    with attach(unet.module, erasure := Erasure(targets)), Runs(unet) as runs:
        run(unet, erasure, steps=2)
    assert runs.rows == [1, 2, 2, 2]  # one reading of the adapter, two of the calibrations, then the host's calls
    together = erasure.scales[0]
    for number, target in enumerate(targets):
        with attach(unet.module, alone := Erasure([target])):
            run(unet, alone)
        torch.testing.assert_close(together[number], alone.scales[0][0])
    assert together[1].max() < 0


def test_nothing_is_drawn_from_global_random_numbers(unet, other):
    rule = fitted(unet, CONTEXT[0], other)
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()
    with attach(unet.module, erasure := Erasure([Target(KNIFE, rule)])):
        run(unet, erasure)
    after = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()
    assert torch.equal(before[0], after[0])
    assert before[1:] == after[1:]


# -- other precisions ------------------------------------------------


def test_what_calibrations_read_is_that_of_float32(mode):  # noqa: F811
    """Two prompts differ by far more than by what another precision makes of one."""
    import test_precision

    unet, exact, dtype, compute, tolerance = mode
    batch, found = make_batch(), []
    for module, kind, to in ((unet, dtype, compute), (exact, torch.float32, None)):
        test_precision._Current.dtype = kind
        arguments = batch.latents[:2].to(kind), batch.timesteps[:2], batch.context[:2].to(kind)
        with autocast(to):
            found.append([read_attention(module, [KNIFE], one, arguments)[0] for one in READINGS])
    for read, expected in zip(*found, strict=True):
        assert read.dtype == torch.float32
        assert read.shape == (2, INPUTS // 2, 1)
        between = (expected[0] - expected[1]).norm()
        assert (read - expected).norm() < tolerance * expected.norm()
        assert ((read[0] - read[1]).norm() - between).abs() < 2 * tolerance * between
