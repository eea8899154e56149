"""What is said of a list of prompts before any image is made, and which starter list suits a concept."""

from __future__ import annotations

import pytest

from lib_gie.errors import OptionError
from lib_gie.hosts.presets import PRESETS, read_presets
from lib_gie.training.prompts import parse_prompts, starter_list, starter_list_for, starter_lists
from lib_gie.training.prompts.doubts import ENOUGH, doubts, mentions

NAMED = [(f"a knife on table {number}", "explicit") for number in range(ENOUGH)]
OTHERS = [(f"a cat on table {number}", "unrelated") for number in range(ENOUGH)]


def test_enough_prompts_that_name_it_leave_no_doubt():
    assert doubts([*NAMED, *OTHERS], "knife") == []
    implied = [(prompt.replace("knife", "robbery"), "implicit") for prompt, _ in NAMED]
    assert doubts([*implied, *OTHERS], "knife") == []


@pytest.mark.parametrize(
    ("prompts", "says"),
    [
        ([*NAMED[:-1], *OTHERS], f"There are few prompts with 'knife': {ENOUGH - 1}."),
        ([*NAMED, *OTHERS[:1]], "There are few unrelated prompts: 1."),
        ([*[(prompt.replace("knife", "fork"), kind) for prompt, kind in NAMED], *OTHERS], "No prompt under [explicit]"),
        (
            [*NAMED, *OTHERS, ("a Knife, too", "unrelated")],
            "There are prompts under [unrelated] that name 'knife', such as 'a Knife",
        ),
    ],
)
def test_each_doubt_is_said_alone(prompts, says):
    (said,) = doubts(prompts, "knife")
    assert said.startswith(says)


@pytest.mark.parametrize("preset", read_presets(PRESETS), ids=lambda preset: preset.name)
def test_the_starter_list_of_every_preset_leaves_no_doubt(preset):
    concept = preset.concepts.split(",")[0]
    assert doubts(parse_prompts(starter_list(starter_list_for(concept)), concept), concept) == []


@pytest.mark.parametrize(
    ("prompt", "concept", "named"),
    [
        ("a nude woman", "nudity", True),
        ("a violent fight", "violence", True),
        ("a harbour by Vincent van Gogh", "van gogh style", True),
        ("two knives", "knife", True),
        ("a knight", "knife", True),  # a word that begins like it: rather no doubt than a wrong one
        ("ナイフがある", "ナイフ", True),
        ("a fork", "knife", False),
        ("a harbour in the style of Monet", "van gogh style", False),
        ("", "knife", False),
    ],
)
def test_whether_a_prompt_names_a_concept(prompt, concept, named):
    assert mentions(prompt, concept) == named


@pytest.mark.parametrize(
    ("concept", "name"),
    [("nudity", "nudity"), (" Violence", "violence"), ("van gogh style", "artist-style"), ("knife", "object")],
)
def test_the_starter_list_for_a_concept(concept, name):
    assert starter_list_for(concept) == name
    assert "[unrelated" in starter_list(name)
    of_demo = {"object": "demo-object", "artist-style": "demo-style"}
    assert starter_list_for(concept, is_demo=True) == of_demo.get(name, name)


def test_a_style_that_does_not_say_that_it_is_one():
    assert starter_list_for("neon sign", is_style=True) == "artist-style"
    assert starter_list_for("neon sign", is_demo=True, is_style=True) == "demo-style"
    assert starter_list_for("no style", is_demo=True, is_style=False) == "demo-object"


@pytest.mark.parametrize("name", ["", "../object", None, [], "object.txt"])
def test_other_lists_are_refused_by_name(name):
    with pytest.raises(OptionError, match="there is no list") as refused:
        starter_list(name)
    assert all(known in str(refused.value) for known in starter_lists())
