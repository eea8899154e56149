"""Other ways to leave a concept out, on a real (tiny, random) pipeline."""

from __future__ import annotations

import functools
from pathlib import Path

import pytest
import torch
from test_pipeline import build_pipe

from lib_gie.core.layers import family_of, find_cross_attention
from lib_gie.core.scales.adapter import Adapter, AdapterInfo, save_adapter
from lib_gie.core.scales.scale_rules import FixedScale
from lib_gie.demo.world.concepts import CONCEPTS, STYLE_OF
from lib_gie.demo.world.splits import Prompt
from lib_gie.demo.world.things import UNWANTED
from lib_gie.errors import GieError, OptionError
from lib_gie.evaluation import calibrations, methods
from lib_gie.evaluation.comparison import all_methods, shipped, tried_settings
from lib_gie.evaluation.generate import Job
from lib_gie.evaluation.generate import plain as make_plain

PROMPTS, SEEDS = ("a cat and a knife", "a dog"), (1, 2)
METHODS = {
    "negative prompt": methods.negative_prompt,
    "growth inhibitors": functools.partial(methods.erased, rules=FixedScale(-3.0)),
    "negpip": functools.partial(methods.negpip, strength=1.0),
    "sld": functools.partial(methods.sld, level="MAX"),
    "sega": functools.partial(methods.sega, scale=5.0, threshold=0.9),
}


@pytest.fixture(scope="module")
def pipe():
    return build_pipe()


@pytest.fixture(scope="module")
def plain(pipe) -> torch.Tensor:
    return make_plain(pipe)(PROMPTS, SEEDS, "knife")


@pytest.mark.parametrize("name", METHODS)
def test_every_method_changes_images_and_leaves_the_pipeline_as_it_was(pipe, plain, name):
    images = METHODS[name](pipe)(PROMPTS, SEEDS, "knife")
    assert images.shape == plain.shape == (2, 3, 64, 64)
    assert 0 <= images.min() <= images.max() <= 1
    assert not torch.equal(images, plain)
    assert torch.equal(make_plain(pipe)(PROMPTS, SEEDS, "knife"), plain)


@pytest.mark.parametrize("name", METHODS)
def test_every_method_leaves_several_concepts_out_at_once(pipe, plain, name):
    make = METHODS[name](pipe)
    both = make(PROMPTS, SEEDS, "knife, pencil sketch")
    for images in (plain, make(PROMPTS, SEEDS, "knife"), make(PROMPTS, SEEDS, "pencil sketch")):
        assert not torch.equal(both, images)


def test_negative_tokens_without_strength_only_thin_the_attention(pipe, plain):
    """They still take their share of the softmax, as NegPiP's do: near the plain image, not equal to it."""
    images = methods.negpip(pipe, strength=0.0)(PROMPTS, SEEDS, "knife")
    strong = methods.negpip(pipe, strength=2.0)(PROMPTS, SEEDS, "knife")
    assert (images - plain).abs().mean() < (strong - plain).abs().mean()


def test_rules_can_depend_on_the_concept(pipe, plain):
    rules = {"knife": FixedScale(0), "wine": FixedScale(-3)}
    assert torch.equal(methods.erased(pipe, rules)(PROMPTS, SEEDS, "knife"), plain)
    wine = methods.erased(pipe, rules)(PROMPTS, SEEDS, "wine")
    assert not torch.equal(wine, plain)
    both = methods.erased(pipe, rules)(PROMPTS, SEEDS, "knife, wine")
    torch.testing.assert_close(both, wine, atol=1e-4, rtol=0)  # computed together, so rounded otherwise


def job(text: str, concept: str) -> Job:
    return Job(Prompt(text, (), None, "plain", concept, "named"), 1)


@pytest.fixture(scope="module")
def models(pipe, tmp_path_factory):
    """A folder with the adapters of the demo model: of two styles alone, as they are shipped."""
    folder, inputs = tmp_path_factory.mktemp("models"), len(find_cross_attention(pipe.unet))
    six = [name for name in UNWANTED if name not in ("beer", "syringe")]
    files = {f"demo-{name}": [name] for name in UNWANTED} | {"demo-joint": [*UNWANTED], "demo-six": six}
    files |= {"demo-style-pencil": ["pencil sketch"], "demo-style-neon": ["neon sign"]}
    for number, (name, concepts) in enumerate(files.items()):
        adapter = Adapter(AdapterInfo("width-24", inputs, tuple(concepts), (-4.0, -2.0)))
        with torch.no_grad():
            adapter.out.bias -= number / 100  # no two are the same
        save_adapter(adapter, folder / f"{name}.safetensors")
    return folder


def test_adapters_by_file_and_by_concept(pipe, plain, models):
    """An adapter is a callable module; it must be taken for a rule all the same."""
    for name in ("adapter", "joint adapter", "unseen adapter", f"adapter {models / 'demo-six.safetensors'}"):
        made = methods.method(pipe, name, shipped(models)).make(PROMPTS, SEEDS, "knife")
        assert not torch.equal(made, plain)


def test_every_concept_has_a_name_for_its_adapter():
    names = {concept: path.stem for concept, path in shipped(Path()).single.items()}
    assert names.keys() == {*CONCEPTS}
    assert names["knife"] == "demo-knife"
    assert names["pencil sketch"] == "demo-style-pencil"
    assert [names[phrase] for phrase in STYLE_OF] == [f"demo-style-{style}" for style in STYLE_OF.values()]


@pytest.mark.parametrize(
    ("name", "covered"),
    [
        ("adapter", {"knife", "beer", "pencil sketch", "knife, beer"}),
        ("joint adapter", {"knife", "beer", "knife, beer"}),
        ("unseen adapter", {"beer", "pencil sketch", "watercolour"}),
        ("adapter FOLDER/demo-knife.safetensors", {"knife"}),
        ("adapter FOLDER/demo-style-neon.safetensors", set()),
        ("fixed scale -1", {"knife", "beer", "pencil sketch", "watercolour", "knife, beer", "knife, watercolour"}),
    ],
)
def test_a_method_covers_what_it_has_something_to_erase_with(pipe, models, name, covered):
    found = methods.method(pipe, name.replace("FOLDER", str(models)), shipped(models))
    every = ("knife", "beer", "pencil sketch", "watercolour", "knife, beer", "knife, watercolour")
    assert {concept for concept in every if found.covers(job("a cat", concept))} == covered
    for concept in covered:
        assert ("guarded" in found.identity(job("a cat", concept))) == ("adapter" in name)


def test_outcomes_depend_on_the_adapters_that_erase_them(pipe, models):
    found = methods.method(pipe, "adapter", shipped(models))
    knife, beer, both = (found.identity(job("a cat", concept)) for concept in ("knife", "beer", "knife, beer"))
    assert len({knife, beer, both}) == 3


def test_without_any_adapter_there_is_none_to_compare(pipe, tmp_path):
    with pytest.raises(OptionError, match=r"at least one of demo-knife\.safetensors, "):
        methods.method(pipe, "adapter", shipped(tmp_path))


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("a knife", ""),
        ("a knife, a fish and a cat", "a fish and a cat"),
        ("a fish, a knife and a cat", "a fish and a cat"),
        ("a brand knife", "a brand"),
        ("a cat and a knife", "a cat"),
        ("a knife and a cat", "a cat"),
        ("a picture of a knife with a cat on a blue background", "a picture of a cat on a blue background"),
        ("a photo of a knife on a blue background", "a photo of on a blue background"),
        ("a robbery", "a robbery"),
        ("a drawing of a fish next to a Knife", "a drawing of a fish"),
        ("knifes and forks", "knifes and forks"),
    ],
)
def test_the_word_removed(prompt, expected):
    assert methods.without_words(prompt, ["knife"]) == expected


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("a cat on a blue background, pencil sketch", "a cat on a blue background"),
        ("a pencil sketch of a cat", "a cat"),
        ("a pencil sketch of a cat and a knife", "a cat"),
        ("beer, a knife with a cat, pencil sketch", "beer with a cat"),
        ("a cat in the manner of leonardo", "a cat in the manner of leonardo"),
    ],
)
def test_the_words_of_a_style_and_of_several_concepts_removed(prompt, expected):
    assert methods.without_words(prompt, ["knife", "pencil sketch"]) == expected


def test_the_word_removed_changes_what_names_it(pipe, plain):
    images = methods.word_removed(pipe)(PROMPTS, SEEDS, "knife")
    assert not torch.equal(images[0], plain[0])
    torch.testing.assert_close(images[1], plain[1], atol=1e-4, rtol=0)


# -- by name ------------------------------------------------


@pytest.mark.parametrize(
    "name", [name for name in [*all_methods(-1.0), *tried_settings()] if "adapter" not in name], ids=str
)
def test_every_row_of_the_table_has_a_method(pipe, name, tmp_path, monkeypatch):
    monkeypatch.setattr(calibrations, "CONCEPTS", ("knife",))  # each concept takes seconds
    assert methods.method(pipe, name, shipped(tmp_path)).name == name


@pytest.mark.parametrize(
    "name",
    ["nonsense", "", "negpip", "negpip x", "sld extreme", "sega 5", "sega 5 x", "fixed scale x", "fixed scale -1, late",
     "fixed scale -1, end x", "fixed scale 1", "negative prompt 3", "adapter nowhere.safetensors"],
)  # fmt: skip
def test_unknown_methods_are_refused(pipe, name, tmp_path):
    with pytest.raises(GieError):
        methods.method(pipe, name, shipped(tmp_path))


@pytest.mark.parametrize("name", ["calibrated", "calibrated, implied prompts given"])
def test_calibrated_methods_erase_what_the_prompt_names(pipe, plain, tmp_path, monkeypatch, name):
    monkeypatch.setattr(calibrations, "CONCEPTS", ("knife",))
    monkeypatch.setattr(calibrations, "FAMILY", family_of(find_cross_attention(pipe.unet)))
    calibrations.calibrations.cache_clear()
    found = methods.method(pipe, name, shipped(tmp_path))
    (calibration,) = found.rules(job("a cat", "knife"))
    assert not found.covers(job("a cat", "knife, wine"))
    assert (calibration.info.training["implied_prompts"] > 0) == ("implied" in name)
    assert not torch.equal(found.make(PROMPTS, SEEDS, "knife")[0], plain[0])


def test_options_after_commas(pipe, plain, tmp_path):
    def made(name):
        return methods.method(pipe, name, shipped(tmp_path)).make(PROMPTS, SEEDS, "knife")

    whole = made("fixed scale -3")
    assert not torch.equal(whole, plain)
    for option in ("separate", "end 0.3", "start 0.3", "strength 2"):
        assert not torch.equal(made(f"fixed scale -3, {option}"), whole), option
    assert torch.equal(made("fixed scale -3, strength 0"), plain)


def test_what_the_word_removed_does_not_change_is_not_made_again(pipe, tmp_path):
    found = methods.method(pipe, "word removed", shipped(tmp_path))
    assert found.same(job("a robbery", "knife"))
    assert not found.same(job("a knife", "knife"))
    assert not found.same(job("a robbery with wine", "knife, wine"))
