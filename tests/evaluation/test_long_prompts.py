"""Prompts of several chunks, on a real (tiny, random) pipeline."""

from __future__ import annotations

import pytest
import torch
from test_pipeline import build_pipe

from lib_gie.core.scales.scale_rules import FixedScale
from lib_gie.evaluation import methods
from lib_gie.evaluation.comparison import shipped
from lib_gie.evaluation.generate import Job, Sampling, generate
from lib_gie.evaluation.long_prompts import ROOM, chunk_count, own_tokens, states_of
from lib_gie.evaluation.measures import jobs_of

FEW = Sampling(steps=3)
FULL = ", ".join(["detailed"] * 38)  # 75 tokens
LONG = f"{FULL}, a cat and a knife"


@pytest.fixture(scope="module")
def pipe():
    return build_pipe()


def test_texts_are_counted_by_their_own_tokens(pipe):
    assert len(own_tokens(pipe.tokenizer, FULL)) == ROOM
    counts = [chunk_count(pipe.tokenizer, [text, "a cat"]) for text in ("", FULL, LONG, f"{FULL}, {LONG}")]
    assert counts == [1, 1, 2, 3]


def test_states_are_those_of_the_pipeline(pipe):
    texts = ["a cat and a knife", "", FULL]
    expected = pipe.encode_prompt(texts, "cpu", 1, False)[0]
    torch.testing.assert_close(states_of(pipe, texts, 1), expected)
    both = states_of(pipe, [LONG, "a cat"], 2)
    assert both.shape == (2, 154, 24)
    torch.testing.assert_close(both[0, :77], expected[2])
    torch.testing.assert_close(both[1, 77:], expected[1])  # an empty chunk
    torch.testing.assert_close(both[0, 77:], states_of(pipe, [", a cat and a knife"], 1)[0])


def test_what_comes_after_the_first_chunk_is_read(pipe):
    same = [generate(pipe, [LONG], [1], FEW) for _ in range(2)]
    assert torch.equal(*same)
    assert not torch.equal(generate(pipe, [f"{FULL}, a cat"], [1], FEW), same[0])
    assert not torch.equal(generate(pipe, [FULL], [1], FEW), same[0])


@pytest.mark.parametrize("name", ["negative prompt", "word removed", "negpip", "growth inhibitors"])
def test_a_concept_in_the_second_chunk_is_erased(pipe, name):
    make = {
        "negative prompt": methods.negative_prompt(pipe, FEW),
        "word removed": methods.word_removed(pipe, FEW),
        "negpip": methods.negpip(pipe, 1.0, sampling=FEW),
        "growth inhibitors": methods.erased(pipe, FixedScale(-3.0), FEW),
    }[name]
    assert not torch.equal(make([LONG], [1], "knife"), generate(pipe, [LONG], [1], FEW))


def test_without_strength_nothing_changes_in_a_long_prompt(pipe):
    plain = generate(pipe, [LONG], [1], FEW)
    images = methods.erased(pipe, FixedScale(0.0), FEW)([LONG], [1], "knife")
    torch.testing.assert_close(images, plain, atol=1e-4, rtol=0)


def test_methods_that_cut_long_prompts_off_do_not_cover_them(pipe, tmp_path):
    short = jobs_of("validation", 1)[0]
    long = Job(short.prompt.__class__(LONG, ("cat", "knife"), None, "plain", "knife", "named"), 1)
    for name, covers in (("sld max", False), ("sega 5 0.9", False), ("negpip 1", True), ("fixed scale -1", True)):
        found = methods.method(pipe, name, shipped(tmp_path))
        assert found.covers(short)
        assert found.covers(long) == covers
