"""Lists of prompts: those that come with the project, and a user's own."""

from __future__ import annotations

import pytest

from lib_gie.errors import OptionError
from lib_gie.training.prompts import KINDS, bare, load_prompts, parse_prompts, samples_of, starter_lists


def test_starter_lists_have_every_kind():
    assert starter_lists() == ["artist-style", "nudity", "object", "violence"]
    for name in starter_lists():
        prompts = load_prompts(name, "van gogh style")
        counts = {kind: sum(found == kind for _, found in prompts) for kind in KINDS}
        assert counts["explicit"] >= 15
        assert counts["unrelated"] >= 15
        assert counts["implicit"] >= 10 or name == "object"
        assert not any("{" in prompt for prompt, _ in prompts)


def test_the_concept_takes_its_place():
    assert ("a castle on a hill, van gogh style", "explicit") in load_prompts("artist-style", "van gogh style")


def test_a_list_of_ones_own(tmp_path):
    path = tmp_path / "mine.txt"
    path.write_text("a knife\n\n# no prompt\n[implicit]\na robbery\na robbery\n[unrelated]\na cat\n", encoding="utf-8")
    prompts = load_prompts(path, "knife")
    assert prompts == [("a knife", "explicit"), ("a robbery", "implicit"), ("a cat", "unrelated")]
    samples = samples_of(prompts, range(2))
    assert [(sample.prompt, sample.seed) for sample in samples[:3]] == [
        ("a knife", 0),
        ("a knife", 1),
        ("a robbery", 0),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [("", "no prompts"), ("# x\n[implicit]", "no prompts"), ("a\n[rude]\nb", "line 2 .* is .rude.")],
)
def test_bad_lists(text, message):
    with pytest.raises(OptionError, match=message):
        parse_prompts(text, "knife")


def test_missing_and_binary_files(tmp_path):
    with pytest.raises(OptionError, match="one of artist-style, nudity"):
        load_prompts("nowhere", "knife")
    path = tmp_path / "picture.txt"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(OptionError, match="cannot be read"):
        load_prompts(path, "knife")


def test_labels_are_for_one_concept():
    assert bare(' "van gogh, oil":1.2') == "van gogh, oil"
    with pytest.raises(OptionError, match="names 2 concepts"):
        bare("knife, wine")
