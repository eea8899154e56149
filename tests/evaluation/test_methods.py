"""Other ways to leave a concept out, on a real (tiny, random) pipeline."""

from __future__ import annotations

import functools

import pytest
import torch
from test_pipeline import build_pipe

from lib_gie.core.layers import family_of, find_cross_attention
from lib_gie.core.scales.adapter import Adapter, AdapterInfo, save_adapter
from lib_gie.core.scales.scale_rules import FixedScale
from lib_gie.demo.glyphs import UNWANTED
from lib_gie.demo.splits import Prompt
from lib_gie.errors import GieError
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


def test_negative_tokens_without_strength_only_thin_the_attention(pipe, plain):
    """They still take their share of the softmax, as NegPiP's do: near the plain image, not equal to it."""
    images = methods.negpip(pipe, strength=0.0)(PROMPTS, SEEDS, "knife")
    strong = methods.negpip(pipe, strength=2.0)(PROMPTS, SEEDS, "knife")
    assert (images - plain).abs().mean() < (strong - plain).abs().mean()


def test_rules_can_depend_on_the_concept(pipe, plain):
    rules = {"knife": FixedScale(0), "wine": FixedScale(-3)}
    assert torch.equal(methods.erased(pipe, rules)(PROMPTS, SEEDS, "knife"), plain)
    assert not torch.equal(methods.erased(pipe, rules)(PROMPTS, SEEDS, "wine"), plain)


def test_adapters_by_file_and_by_concept(pipe, plain, tmp_path):
    """An adapter is a callable module; it must be taken for a rule all the same."""
    inputs = len(find_cross_attention(pipe.unet))
    info = AdapterInfo("width-24", inputs, tuple(UNWANTED), (-4.0, -2.0))
    names = ["joint", "six", *UNWANTED]
    for name in names:
        save_adapter(Adapter(info), tmp_path / f"demo-{name}.safetensors")
    for name in ("adapter", "joint adapter", "unseen adapter", f"adapter {tmp_path / 'demo-six.safetensors'}"):
        made = methods.method(pipe, name, shipped(tmp_path)).make(PROMPTS, SEEDS, "knife")
        assert not torch.equal(made, plain)


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("a knife", ""),
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
    assert methods.without_word(prompt, "knife") == expected


def test_the_word_removed_changes_what_names_it(pipe, plain):
    images = methods.word_removed(pipe)(PROMPTS, SEEDS, "knife")
    assert not torch.equal(images[0], plain[0])
    torch.testing.assert_close(images[1], plain[1], atol=1e-4, rtol=0)


# -- by name ------------------------------------------------


@pytest.mark.parametrize(
    "name", [name for name in [*all_methods(-1.0), *tried_settings()] if "adapter" not in name], ids=str
)
def test_every_row_of_the_table_has_a_method(pipe, name, tmp_path, monkeypatch):
    monkeypatch.setattr(calibrations, "UNWANTED", ("knife",))  # each concept takes seconds
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
    monkeypatch.setattr(calibrations, "UNWANTED", ("knife",))
    monkeypatch.setattr(calibrations, "DEMO_BASE", family_of(find_cross_attention(pipe.unet)))
    calibrations.calibrations.cache_clear()
    found = methods.method(pipe, name, shipped(tmp_path))
    (calibration,) = found.rules
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
    robbery = Job(Prompt("a robbery", ("knife", "money"), None, "knife", "implicit"), 1)
    knife = Job(Prompt("a knife", ("knife",), None, "knife", "explicit"), 1)
    assert found.same(robbery)
    assert not found.same(knife)
