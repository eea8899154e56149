"""Presets: which texts are read, which are refused in words that help, and what a press adds."""

from __future__ import annotations

import re

import pytest

from lib_gie.core.concepts import parse_concepts
from lib_gie.errors import OptionError
from lib_gie.hosts.presets import MOST_CHARACTERS, MOST_PRESETS, PRESETS, Preset, read_presets


def test_each_line_is_one():
    found = read_presets('\n nudity :  nudity, naked \n\nmine: "a: b":1.2, wine:0.5\r\n')
    assert found == (Preset("nudity", "nudity, naked"), Preset("mine", '"a: b":1.2, wine:0.5'))
    assert read_presets(" \n\n") == ()


def test_those_that_are_offered_at_first_can_be_read():
    assert [preset.name for preset in read_presets(PRESETS)] == ["nudity", "violence", "van gogh style", "knife"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("knife", "line 1 of the presets is 'knife'; it must be a name, a colon and concepts"),
        ("a: knife\n\nb:", "line 3 of the presets is 'b:'; it must be a name, a colon and concepts"),
        (": knife", "it must be a name, a colon and concepts"),
        ("a: knife:x", "line 1 of the presets is 'a: knife:x'; its concepts cannot be read: the weight of 'knife'"),
        ('a: "knife', "its concepts cannot be read"),
        ("a: ,", "its concepts cannot be read"),
        ("a: knife\na: wine", "line 2 of the presets has the name 'a' again"),
        (f"{'x' * (MOST_CHARACTERS + 1)}: knife", f"at most {MOST_CHARACTERS} fit a button"),
        ("\n".join(f"{k}: knife" for k in range(MOST_PRESETS + 1)), f"a page has room for {MOST_PRESETS}"),
        (None, "the presets are None; they must be a text"),
    ],
)
def test_a_bad_line_is_named(text, says):
    with pytest.raises(OptionError, match=re.escape(says)) as refused:
        read_presets(text)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("", "nudity, naked"),
        (" \n", "nudity, naked"),
        ("knife", "knife, nudity, naked"),
        ("knife, ", "knife, nudity, naked"),
        ("knife;", "knife, nudity, naked"),
        ("Naked:0.5, wine", "Naked:0.5, wine, nudity"),
        ("nudity\nnaked", "nudity\nnaked"),
        ('"knife', '"knife'),  # it cannot be read: it is corrected first
    ],
)
def test_a_press_adds_what_is_not_there(text, wanted):
    preset = Preset("nudity", "nudity, naked")
    assert preset.added_to(text) == wanted
    assert preset.added_to(wanted) == wanted


def test_what_a_press_adds_keeps_its_weights_and_quotes():
    added = Preset("styles", '"van gogh, oil":1.2, wine:0.5').added_to("knife:2")
    assert parse_concepts(added) == parse_concepts('knife:2, "van gogh, oil":1.2, wine:0.5')
