"""Other ways to leave a concept out, on a real (tiny, random) pipeline."""

from __future__ import annotations

import functools

import pytest
import torch
from test_pipeline import build_pipe

from lib_gie.evaluation import methods

PROMPTS, SEEDS = ("a cat and a knife", "a dog"), (1, 2)
METHODS = {
    "negative prompt": methods.negative_prompt,
    "growth inhibitors": functools.partial(methods.growth_inhibitors, scale=-3.0),
    "negpip": functools.partial(methods.negpip, strength=1.0),
    "sld": functools.partial(methods.sld, level="MAX"),
    "sega": functools.partial(methods.sega, scale=5.0, threshold=0.9),
}


@pytest.fixture(scope="module")
def pipe():
    return build_pipe()


@pytest.fixture(scope="module")
def plain(pipe) -> torch.Tensor:
    return methods.plain(pipe)(PROMPTS, SEEDS, "knife")


@pytest.mark.parametrize("name", METHODS)
def test_every_method_changes_images_and_leaves_the_pipeline_as_it_was(pipe, plain, name):
    images = METHODS[name](pipe)(PROMPTS, SEEDS, "knife")
    assert images.shape == plain.shape == (2, 3, 64, 64)
    assert 0 <= images.min() <= images.max() <= 1
    assert not torch.equal(images, plain)
    assert torch.equal(methods.plain(pipe)(PROMPTS, SEEDS, "knife"), plain)


def test_negative_tokens_without_strength_only_thin_the_attention(pipe, plain):
    """They still take their share of the softmax, as NegPiP's do: near the plain image, not equal to it."""
    images = methods.negpip(pipe, strength=0.0)(PROMPTS, SEEDS, "knife")
    strong = methods.negpip(pipe, strength=2.0)(PROMPTS, SEEDS, "knife")
    assert (images - plain).abs().mean() < (strong - plain).abs().mean()


def test_options_can_depend_on_the_concept(pipe, plain):
    asked = []

    def scale(concept):
        asked.append(concept)
        return 0.0

    images = methods.growth_inhibitors(pipe, scale=scale)(PROMPTS, SEEDS, "knife")
    assert asked == ["knife"]
    assert torch.equal(images, plain)


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
