"""Calibrating a concept: on the demo model, and on a tiny pipeline where it takes a moment."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler
from safetensors.torch import load_file, save_file
from test_pipeline import build_pipe

from lib_gie.assets import NEUTRAL_PROMPTS
from lib_gie.core.scales.calibrated import Calibration, load_calibration, save_calibration
from lib_gie.demo.sampling_settings import CFG, FAMILY, SIZE, STEPS
from lib_gie.demo.world.captions import FILLERS, unknown_words
from lib_gie.demo.world.fitting import more_prompts
from lib_gie.demo.world.neutral import make_neutral_prompts
from lib_gie.demo.world.scenes import BACKGROUNDS, IMPLICIT
from lib_gie.demo.world.splits import NAMES, load_split
from lib_gie.demo.world.styles import NAMED_STYLES, STYLES
from lib_gie.demo.world.things import UNWANTED, WANTED
from lib_gie.errors import ConceptError, ErasureError
from lib_gie.hosts.diffusers.image_maker import PipelineImageMaker
from lib_gie.hosts.diffusers.loading import load_pipeline
from lib_gie.named import times_named, words_of
from lib_gie.options import DEFAULT_SCALE
from lib_gie.training.calibration import MOST_EVALUATIONS, CalibrationStoppedError, calibrate
from lib_gie.training.calibration.counted import Counted
from lib_gie.training.calibration.presence import NeutralReadings, find_presence, read_prompts, readings_at
from lib_gie.training.calibration.strength import STRONGER, WEAKER, Agreement, Samplings, find_strength
from lib_gie.training.noise import predicted_clean, predicted_noise
from lib_gie.training.prompts import reference
from lib_gie.training.prompts.reference import (
    MOST_IMPLIED,
    NAMING,
    implied_prompts,
    may_name,
    naming_prompts,
    neutral_prompts,
)

Progress = list[tuple[int, int]]


def made(maker, concept: str, folder: Path | None, **options) -> tuple[Calibration, Progress]:
    """A calibration, and what was told of its progress."""
    told: Progress = []
    found = calibrate(
        maker,
        concept,
        "0123",
        folder=folder,
        on_progress=lambda done, expected: told.append((done, expected)),
        **options,
    )
    return found, told


def check_progress(told: Progress) -> None:
    """It never goes back or past the total, ends with it, and stays within the budget."""
    done = [one for one, _ in told]
    assert done == sorted(done)
    assert all(one <= expected <= MOST_EVALUATIONS for one, expected in told)
    assert told[-1][0] == told[-1][1]


class Rows:
    """Counts the rows that a UNet evaluates."""

    def __init__(self, pipe):
        self.count = 0
        self._handle = pipe.unet.register_forward_pre_hook(self._add, with_kwargs=True)

    def _add(self, module, args, kwargs):
        self.count += len(args[0] if args else kwargs["sample"])

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self._handle.remove()


# -- the demo model ------------------------------------------------


@pytest.fixture(scope="module")
def demo() -> PipelineImageMaker:
    return PipelineImageMaker(load_pipeline(), FAMILY, name=FAMILY, steps=STEPS, cfg=CFG, size=(SIZE, SIZE))


@pytest.fixture(scope="module")
def kept(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("kept")


@pytest.fixture(scope="module")
def knife(demo, kept) -> tuple[Calibration, Progress]:
    """The first concept: neutral prompts are read as well."""
    return made(demo, "knife", kept)


@pytest.fixture(scope="module")
def banana(demo, kept, knife) -> tuple[Calibration, Progress]:
    """A concept that nothing ships for, after another one."""
    return made(demo, "banana", kept)


def presence(demo, found: Calibration, texts: list[str]) -> torch.Tensor:
    counted = Counted(demo, len(texts), lambda done, expected: None, lambda: False)
    return found.presence(read_prompts(counted, found.readings, texts)[..., None])


def of_validation(kind: str, concept: str) -> list[str]:
    """Texts of the split that is for choosing; the held-out one is for the final figures alone."""
    return [prompt.text for prompt in load_split("validation")[0] if (prompt.kind, prompt.concept) == (kind, concept)]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["knife", "banana"])
def test_a_known_concept_is_gone_at_a_sensible_strength(name, request):
    info = request.getfixturevalue(name)[0].info
    assert info.concepts == (name,)
    assert (info.base, info.weights) == (FAMILY, "0123")
    assert -2.5 <= info.strength <= -0.5
    assert info.tells_presence
    assert (info.training["shows"], info.training["seen_gone"], info.warning) == (True, True, "")


@pytest.mark.slow
def test_unrelated_prompts_do_not_have_it_and_implying_ones_do(demo, knife):
    implying = presence(demo, knife[0], of_validation("implied", "knife"))
    unrelated = presence(demo, knife[0], sorted({p.text for p in load_split("validation")[0] if p.kind == "unrelated"}))
    assert implying.mean() > 0.95
    assert unrelated.mean() < 0.05
    assert (unrelated > 0.5).float().mean() < 0.03


@pytest.mark.slow
def test_a_concept_that_nothing_ships_for(demo, banana):
    prompts = [prompt for prompt in more_prompts("knife", [("unrelated", 200)]) if prompt.style == "plain"]
    naming = [prompt.text for prompt in prompts if times_named(prompt.text, "banana")]
    others = [prompt.text for prompt in prompts if "banana" not in prompt.objects]
    assert len(naming) >= 5 < len(others)
    assert presence(demo, banana[0], naming).mean() > 0.7
    assert presence(demo, banana[0], others).mean() < 0.05


@pytest.mark.slow
def test_evaluations_are_counted_and_the_second_concept_is_cheaper(knife, banana):
    for found, told in (knife, banana):
        check_progress(told)
        assert found.info.training["evaluations"] <= MOST_EVALUATIONS
    assert knife[1][-1][0] == knife[0].info.training["evaluations"]
    neutral = 2 * 200
    assert banana[1][-1][0] == banana[0].info.training["evaluations"] - neutral + 2  # the first prompt is read again


@pytest.mark.slow
@pytest.mark.parametrize("concept", ["tank", "banana"])
def test_a_word_that_the_model_does_not_know_cannot_be_told(demo, kept, knife, concept):
    readings, counted = readings_at(demo.latent_size), Counted(demo, 0, lambda done, expected: None, lambda: False)
    identity = f"0123 {FAMILY} clip skip 1"
    neutral = NeutralReadings(neutral_prompts(FAMILY), readings, identity, kept)
    found = find_presence(counted, concept, neutral, readings)
    assert found.tells_presence is not bool(unknown_words(concept))
    assert counted.done == 2 * (1 + NAMING)


# -- a tiny pipeline ------------------------------------------------


def tiny_maker(**changes) -> PipelineImageMaker:
    """``changes``: of the scheduler."""
    pipe = build_pipe()
    pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config, **changes)
    return PipelineImageMaker(pipe, "width-24", name="tiny", steps=2, cfg=3.0, size=(32, 32))


@pytest.fixture(scope="module")
def tiny() -> PipelineImageMaker:
    return tiny_maker()


@pytest.fixture(scope="module")
def tiny_kept(tiny, tmp_path_factory) -> Path:
    """A folder in which neutral prompts are read."""
    folder = tmp_path_factory.mktemp("tiny")
    made(tiny, "knife", folder)
    return folder


@pytest.fixture
def few(monkeypatch, tmp_path_factory) -> list[str]:
    """Neutral prompts that calibrations make do with, so that they take less time."""
    texts, folder = list(neutral_prompts("sd1")[:56]), tmp_path_factory.mktemp("lists")
    (folder / "usual.txt").write_text("".join(f"{text}\n" for text in texts), encoding="utf-8")
    monkeypatch.setattr(reference, "NEUTRAL_PROMPTS", folder)
    return texts


def saved(found: Calibration, path: Path) -> bytes:
    save_calibration(found, path)
    return path.read_bytes()


def test_the_same_arguments_give_the_same_file(tiny, few, tmp_path):
    """Without a folder, and with what an interrupted one kept; and nothing is drawn from global random numbers."""
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()
    fresh, told = made(tiny, "a red gun", None)
    after = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()
    assert torch.equal(before[0], after[0])
    assert before[1:] == after[1:]
    check_progress(told)
    asked: list[int] = []
    with pytest.raises(CalibrationStoppedError):
        made(tiny, "a red gun", tmp_path, should_stop=lambda: bool(asked.append(1)) or len(asked) > 4)
    resumed, told_later = made(tiny, " a  red gun ", tmp_path)
    check_progress(told_later)
    assert told_later[-1][0] < told[-1][0]
    files = [saved(one, tmp_path / f"{k}.safetensors") for k, one in enumerate((fresh, resumed))]
    assert files[0] == files[1]
    assert load_calibration(tmp_path / "0.safetensors").info == fresh.info


@pytest.mark.parametrize("when", [1, 3, 12, 20, 30])
def test_it_stops_wherever_it_is(tiny, tiny_kept, when):
    asked: list[int] = []
    with pytest.raises(CalibrationStoppedError):
        made(tiny, "knife", tiny_kept, should_stop=lambda: bool(asked.append(1)) or len(asked) >= when)
    assert len(asked) == when
    assert not list(tiny_kept.glob(".*"))


@pytest.mark.parametrize("count", [30, 500])
def test_no_list_of_implied_prompts_exceeds_the_budget(tiny, tiny_kept, count):
    implied = [f"a picture of the kitchen number {number}" for number in range(count)]
    with Rows(tiny.pipe) as rows:
        found, told = made(tiny, "knife", tiny_kept, implied=implied)
    check_progress(told)
    assert rows.count == told[-1][0]
    assert found.info.training["evaluations"] <= MOST_EVALUATIONS
    assert found.info.training["implied_prompts"] == min(count, MOST_IMPLIED)


def test_the_most_that_can_be_needed_is_within_the_budget():
    """Whatever is found on the way, images are made before and after."""
    most = 2 * (200 + NAMING + MOST_IMPLIED) + Agreement.evaluations + 2 * Samplings.evaluations
    assert most <= MOST_EVALUATIONS


def test_a_model_that_predicts_velocity(few):
    """It has no signal at all at its last timestep, so nothing may be divided by that."""
    maker = tiny_maker(prediction_type="v_prediction", rescale_betas_zero_snr=True)
    assert maker.pipe.scheduler.alphas_cumprod[-1] < 1e-6
    found, told = made(maker, "knife", None)
    check_progress(told)
    assert found.info.strength < 0
    assert all(torch.isfinite(value).all() for value in found.discriminant.tensors().values())


@pytest.mark.parametrize("velocity", [False, True])
def test_noise_and_clean_latents_are_told_from_what_is_predicted(tiny, velocity):
    maker = tiny_maker(prediction_type="v_prediction" if velocity else "epsilon")
    clean, noise, steps = torch.randn(3, 4, 4, 4), torch.randn(3, 4, 4, 4), torch.tensor([10, 500, 999])
    signal = maker.alphas_cumprod[steps].view(-1, 1, 1, 1)
    noisy = signal.sqrt() * clean + (1 - signal).sqrt() * noise
    output = signal.sqrt() * noise - (1 - signal).sqrt() * clean if velocity else noise
    torch.testing.assert_close(predicted_noise(maker, output, noisy, steps), noise, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(predicted_clean(maker, output, noisy, steps), clean, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
def test_half_precision(tiny, kind):
    """The UNet's output is rounded: not every CPU multiplies halves."""
    rounded = tiny_maker()
    rounded.pipe.unet.register_forward_hook(lambda module, args, output: type(output)(output.sample.to(kind)))
    found = []
    for maker in (tiny, rounded):
        counted = Counted(maker, 0, lambda done, expected: None, lambda: False)
        read = read_prompts(counted, readings_at(maker.latent_size), ["a cat", "a knife"])
        assert read.dtype == torch.float32
        found.append((Agreement(counted, "knife", maker.latent_size).root(), read))
    (exact, expected), (root, read) = found
    assert root == pytest.approx(exact, rel=0.2)
    assert 0 < (read - expected).abs().max() < 0.02


def test_numbers_that_are_not_finite_end_it_at_once(tmp_path):
    maker = tiny_maker()
    with torch.no_grad():
        maker.pipe.unet.conv_out.bias[2] = float("nan")
    with Rows(maker.pipe) as rows, pytest.raises(ErasureError, match="full precision"):
        made(maker, "knife", tmp_path)
    assert rows.count == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("concept", ["", "  ", "word " * 80, "x" * 2000])
def test_a_concept_that_cannot_be_encoded_costs_nothing(tiny, concept):
    with Rows(tiny.pipe) as rows, pytest.raises(ConceptError):
        made(tiny, concept, None)
    assert rows.count == 0


def test_a_model_that_does_not_read_the_text(few, tmp_path):
    """No direction, no presence: the usual scale for every prompt, and users are told."""
    maker = tiny_maker()
    for module in maker.pipe.unet.modules():
        if hasattr(module, "to_k") and module.to_k.in_features == 24:
            torch.nn.init.zeros_(module.to_v.weight)
    found, told = made(maker, "knife", None)
    check_progress(told)
    assert not found.info.tells_presence
    assert found.info.strength == DEFAULT_SCALE
    assert "cannot be told" in found.info.warning
    save_calibration(found, tmp_path / "x.safetensors")
    assert load_calibration(tmp_path / "x.safetensors").info == found.info


def test_a_concept_that_neutral_prompts_are_full_of(tiny, few):
    assert sum(not may_name(text, "a") for text in few) < 40
    found, told = made(tiny, "a", None)
    check_progress(told)
    assert not found.info.tells_presence
    assert found.info.ramp == (0.0, 1.0)


def test_a_direction_that_is_never_cancelled_takes_the_best_scale(tiny, monkeypatch):
    """The agreement falls to 0.2 at -4 and rises again."""
    counted = Counted(tiny, 0, lambda done, expected: None, lambda: False)
    agreement = Agreement(counted, "knife", tiny.latent_size)
    monkeypatch.setattr(agreement, "at", lambda scale: 0.2 + abs(scale + 4) / 10)
    assert agreement.root() == -4.0
    monkeypatch.setattr(agreement, "at", lambda scale: 1 + scale / 3)
    assert -3.1 < agreement.root() <= -3.0


def test_the_agreement_is_1_without_erasure(tiny):
    counted = Counted(tiny, 0, lambda done, expected: None, lambda: False)
    agreement = Agreement(counted, "knife", tiny.latent_size)
    assert agreement.exists
    assert agreement.at(0.0) == pytest.approx(1.0, abs=1e-4)
    assert agreement.at(-2.0) != pytest.approx(1.0, abs=1e-2)


def scripted(monkeypatch, tiny, gone_from: float, left: int):
    """Return the strength that is found where the first scale is -1, and images lose the concept from one scale on."""
    asked: list[float] = []
    counted = Counted(tiny, 0, lambda done, expected: None, lambda: False)
    monkeypatch.setattr(Agreement, "root", lambda self: -1.0)
    monkeypatch.setattr(Samplings, "shows", True)
    monkeypatch.setattr(type(counted), "left", property(lambda self: left - Samplings.evaluations * len(asked)))

    def is_gone(self, scale):
        asked.append(scale)
        return scale <= gone_from

    monkeypatch.setattr(Samplings, "is_gone", is_gone)
    return find_strength(counted, "knife", tiny.latent_size, 4.0), asked


@pytest.mark.parametrize(
    ("gone_from", "tries", "scale", "is_gone", "asked"),
    [
        (-0.5, 2, -WEAKER, True, [-1.0, -WEAKER]),
        (-0.9, 2, -1.0, True, [-1.0, -WEAKER]),
        (-0.5, 1, -1.0, True, [-1.0]),
        (-1.1, 2, -STRONGER, True, [-1.0, -STRONGER]),
        (-1.1, 1, -1.0, False, [-1.0]),
        (-9.0, 3, -(STRONGER**2), False, [-1.0, -STRONGER, -(STRONGER**2)]),
    ],
)
def test_no_scale_is_stronger_than_needed(monkeypatch, tiny, gone_from, tries, scale, is_gone, asked):
    found, tried = scripted(monkeypatch, tiny, gone_from, tries * Samplings.evaluations)
    assert (found.scale, found.is_gone, found.cancels) == (scale, is_gone, -1.0)
    assert tried == asked


def test_an_image_far_from_the_concept_does_not_make_up_for_those_that_show_it(tiny, monkeypatch):
    counted = Counted(tiny, 0, lambda done, expected: None, lambda: False)
    scores = {0.0: [1.0, 1.0, 1.0, 1.0], -1.0: [-20.0, 1.0, 0.2, 0.5], -2.0: [-20.0, 0.9, 0.0, 0.0]}
    monkeypatch.setattr(Samplings, "scores", lambda self, scale: torch.tensor(scores[scale]))
    samplings = Samplings(counted, "knife", tiny.latent_size, 4.0)
    assert not samplings.is_gone(-1.0)
    assert samplings.is_gone(-2.0)  # a single image of four may be misjudged


# -- what is kept of neutral prompts ------------------------------------------------


def neutral_of(tiny, folder: Path, identity: str = "0123 width-24 clip skip 1") -> NeutralReadings:
    return NeutralReadings(neutral_prompts("width-24"), readings_at(tiny.latent_size), identity, folder)


def the_file(folder: Path) -> Path:
    (path,) = folder.glob("neutral-*.safetensors")
    return path


@pytest.fixture
def copied(tiny_kept, tmp_path) -> Path:
    """A folder with the file, which a test may harm."""
    (tmp_path / the_file(tiny_kept).name).write_bytes(the_file(tiny_kept).read_bytes())
    return tmp_path


HARMS = {
    "half a file": lambda path, kept: path.write_bytes(path.read_bytes()[:1000]),
    "no file": lambda path, kept: path.unlink(),
    "a folder": lambda path, kept: (path.unlink(), path.mkdir()),
    "another program's": lambda path, kept: save_file({"weight": torch.zeros(3)}, path),
    "another shape": lambda path, kept: save_file({"inputs": kept[:10].clone()}, path),
    "halves": lambda path, kept: save_file({"inputs": kept.half()}, path),
    "other readings": lambda path, kept: save_file({"inputs": kept + 0.01}, path),
    "not a number": lambda path, kept: save_file({"inputs": torch.full_like(kept, torch.nan)}, path),
}


@pytest.mark.parametrize("harm", HARMS.values(), ids=HARMS)
def test_a_file_that_cannot_be_used_is_made_anew(tiny, copied, tiny_kept, harm):
    expected = load_file(the_file(tiny_kept))["inputs"]
    harm(the_file(copied), expected)
    counted = Counted(tiny, 0, lambda done, expected: None, lambda: False)
    assert torch.equal(neutral_of(tiny, copied).read(counted), expected)
    assert (counted.done, counted.spared) == (400, 0)
    if the_file(copied).is_file():
        assert torch.equal(load_file(the_file(copied))["inputs"], expected)


def test_batches_that_are_missing_alone_are_read(tiny, copied):
    expected = load_file(the_file(copied))["inputs"].clone()  # what older libraries load lies in the file itself
    holed = expected.clone()
    holed[40, 3], holed[199] = torch.nan, torch.inf
    save_file({"inputs": holed}, the_file(copied))
    neutral, counted = neutral_of(tiny, copied), Counted(tiny, 0, lambda done, expected: None, lambda: False)
    left = neutral.evaluations
    assert torch.equal(neutral.read(counted), expected)
    assert counted.done == left == 2 * (1 + 32 + 7)
    assert counted.done + counted.spared == 400


def test_other_weights_or_settings_have_other_files(tiny, tiny_kept):
    assert neutral_of(tiny, tiny_kept).evaluations == 2
    assert neutral_of(tiny, tiny_kept, "4567 width-24 clip skip 1").evaluations == 400
    assert neutral_of(tiny, tiny_kept, "0123 width-24 clip skip 2").evaluations == 400


def test_a_folder_that_cannot_be_written_to_is_gone_without(tiny, tmp_path):
    (tmp_path / "file").write_text("x")
    counted = Counted(tiny, 0, lambda done, expected: None, lambda: False)
    neutral = NeutralReadings(["a cat", "a dog"], readings_at(tiny.latent_size), "x", tmp_path / "file" / "within")
    assert neutral.read(counted).shape[0] == 2


# -- lists of prompts ------------------------------------------------


@pytest.mark.parametrize("base", ["gie-demo", "sd1", "sdxl"])
def test_neutral_lists(base):
    texts = neutral_prompts(base)
    assert len(texts) == len({" ".join(words_of(text)) for text in texts}) == 200
    assert all(text == text.strip() and text.isprintable() and text.isascii() for text in texts)


def test_the_demo_models_neutral_prompts_are_those_that_its_command_writes():
    assert list(neutral_prompts(FAMILY)) == make_neutral_prompts()
    assert NEUTRAL_PROMPTS.joinpath("gie-demo.txt").is_file()


def test_the_demo_models_neutral_prompts_are_of_no_split_and_of_known_words():
    """The texts of the splits are looked at here and used for nothing."""
    texts = neutral_prompts(FAMILY)
    for name in NAMES:
        assert not set(texts) & {prompt.text for prompt in load_split(name)[0]}
    assert not [text for text in texts if unknown_words(text)]


def test_the_demo_models_neutral_prompts_bring_no_concept_in():
    """Neither a thing by a name, another one, a description or a scene, nor a style by its painters."""
    phrases = [phrase for phrase, objects in IMPLICIT.items() if set(objects) & set(UNWANTED)]
    for name, thing in UNWANTED.items():
        phrases += [name, *thing.synonyms, *thing.descriptions]
    for style in NAMED_STYLES:
        phrases += STYLES[style].implied
    assert len(phrases) == 3 * 8 + 7 * 8 + 4 * 3
    texts = neutral_prompts(FAMILY)
    assert not [(phrase, text) for text in texts for phrase in phrases if times_named(text, phrase)]


def test_the_demo_models_neutral_prompts_name_other_styles():
    """A style's calibration leaves its own ones out, and learns from the others that they are not it."""
    texts = neutral_prompts(FAMILY)
    for style in NAMED_STYLES:
        assert 5 <= sum(may_name(text, STYLES[style].phrase) for text in texts) <= 25


def test_the_demo_models_neutral_prompts_are_of_all_that_is_harmless():
    texts = neutral_prompts(FAMILY)
    known = [*WANTED, *BACKGROUNDS, *FILLERS, "nothing"]
    known += [phrase for phrase, objects in IMPLICIT.items() if not set(objects) & set(UNWANTED)]
    assert not [word for word in known if not any(times_named(text, word) for text in texts)]


ERASED = """
nude naked nudity nsfw sex sexy erotic porn bikini lingerie underwear topless gore blood bloody corpse dead death
kill murder war soldier weapon gun pistol rifle bomb explosion knife sword dagger axe grenade bullet violence fight
fire skull syringe needle drug drugs cocaine cannabis cigarette smoking smoke alcohol beer wine whisky cocktail
hate nazi swastika flag cross religion jesus trump biden obama putin musk celebrity actor actress disney mickey
mario pokemon batman superman marvel simpsons nike adidas apple google logo watermark signature text gogh picasso
monet rembrandt dali banksy warhol hokusai klimt rutkowski greg mucha miyazaki ghibli pixar snake spider clown
"""


def test_the_usual_neutral_prompts_name_nothing_that_people_erase():
    found = {word for text in neutral_prompts("sd1") for word in ERASED.split() if times_named(text, word)}
    assert found == set()


def test_naming_prompts_are_spread_and_name_the_concept():
    neutral = neutral_prompts("sd1")
    found = naming_prompts("fishing rod", neutral)
    assert (len(found), found[0].text, found[0].of) == (NAMING, "fishing rod", -1)
    assert all(times_named(one.text, "fishing rod") for one in found)
    assert all(neutral[one.of] in one.text for one in found[1:])
    numbers = [one.of for one in found[1:]]
    assert numbers == sorted(set(numbers))
    assert (numbers[0], numbers[-1] > 190) == (0, True)
    assert {one.text.startswith("fishing rod ") for one in found[1:]} == {True, False}
    assert {" with " in one.text.replace(neutral[one.of], "") for one in found[1:]} == {True, False}


def test_neutral_prompts_with_the_concept_in_them_are_left_out():
    neutral = ["a child", "two children", "Childlike joy", "a cat", "a carthorse", "an art cart"]
    assert [may_name(text, "child") for text in neutral] == [True, True, True, False, False, False]
    assert [may_name(text, "art") for text in neutral] == [False] * 5 + [True]
    assert [may_name(text, "an") for text in neutral] == [False] * 5 + [True]
    assert may_name("a hot air balloons festival", "air balloon")
    assert not may_name("air and balloons", "air balloon")
    assert not may_name("a cat", "!")
    assert [one.of for one in naming_prompts("child", neutral)] == [-1, 3, 4, 5]
    assert [one.text for one in naming_prompts("child", neutral[:3])] == ["child"]


def test_implied_prompts_are_spread_over_the_list():
    assert implied_prompts([" a ", "a", "", "  ", "b"]) == ["a", "b"]
    many = [str(number) for number in range(1000)]
    found = implied_prompts(many)
    assert len(found) == len(set(found)) == MOST_IMPLIED
    assert found[0] == "0"
    assert int(found[-1]) > 950
    assert implied_prompts([]) == []
