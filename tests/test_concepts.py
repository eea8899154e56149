"""Concept texts: reading, writing, and what is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib_gie.concepts import Concept, format_concepts, merge, parse_concepts
from lib_gie.encoding import check_token_count
from lib_gie.errors import ConceptError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("knife", [("knife", 1)]),
        ("knife, wine:0.5", [("knife", 1), ("wine", 0.5)]),
        ('"van gogh, oil painting":1.2', [("van gogh, oil painting", 1.2)]),
        ('"star wars: a new hope"', [("star wars: a new hope", 1)]),
        ('"say ""no"""', [('say "no"', 1)]),
        ("  van \n gogh\tstyle  :  2 ", [("van gogh style", 2)]),
        (",knife,, ,wine,", [("knife", 1), ("wine", 1)]),
        ("Knife, knife:0.5, KNIFE:2", [("Knife", 2)]),
        ("Straße, STRASSE:3", [("Straße", 3)]),
        ("wine:0", [("wine", 0)]),
        ("wine:1e-1", [("wine", 0.1)]),
        ("🔪:.5", [("🔪", 0.5)]),
    ],
)
def test_reads(text, expected):
    assert [(c.text, c.weight) for c in parse_concepts(text)] == expected


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "empty"),
        (" \n ", "empty"),
        (",", "names nothing"),
        (" , ,,", "names nothing"),
        ('""', "empty"),
        ("knife:-1", "from 0 up"),
        ("knife:nan", "number"),
        ("knife:inf", "number"),
        ("knife:1e999", "finite"),
        ("knife:", "number"),
        ("knife:1_0", "number"),
        ("star wars: a new hope", "quotes"),
        (":2", "no concept"),
        ('"knife', "quotes"),
        ('kn"ife', "quotes"),
        ('"knife"x', "quotes"),
    ],
)
def test_refuses(text, says):
    with pytest.raises(ConceptError, match=says):
        parse_concepts(text)


@pytest.mark.parametrize("value", [None, 3, ["knife"], {"knife": 1}, b"knife"])
def test_refuses_other_types(value):
    with pytest.raises(ConceptError, match=type(value).__name__):
        parse_concepts(value)


@pytest.mark.parametrize("weight", [True, "1", None, float("nan"), -0.5])
def test_refuses_bad_weights(weight):
    with pytest.raises(ConceptError, match="weight"):
        Concept("knife", weight)


def test_too_many_tokens_says_how_many():
    with pytest.raises(ConceptError, match="76 tokens; at most 75"):
        check_token_count("x", 76)
    with pytest.raises(ConceptError, match="no tokens"):
        check_token_count("x", 0)
    check_token_count("x", 75)


texts = st.text(min_size=1, max_size=30).filter(lambda text: text.split())
weights = st.floats(0, 1e6, allow_nan=False)


@given(st.lists(st.builds(Concept, texts, weights), min_size=1, max_size=5).map(merge))
def test_any_concepts_survive_writing_and_reading(concepts):
    assert parse_concepts(format_concepts(concepts)) == concepts


@given(st.text(max_size=60))
def test_any_text_is_read_or_refused(text):
    try:
        concepts = parse_concepts(text)
    except ConceptError:
        return
    assert concepts
    assert all(concept.text.strip() and concept.weight >= 0 for concept in concepts)
