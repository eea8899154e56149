"""Concept texts: reading, writing, and what is refused."""

from __future__ import annotations

import contextlib
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib_gie.checks import MOST_QUOTED, quoted
from lib_gie.core.concepts import MAX_CHARACTERS, MAX_CONCEPTS, Concept, format_concepts, merge, parse_concepts
from lib_gie.core.encoding import check_length, check_token_count
from lib_gie.errors import ConceptError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("knife", [("knife", 1)]),
        ("knife, wine:0.5", [("knife", 1), ("wine", 0.5)]),
        ('"van gogh, oil painting":1.2', [("van gogh, oil painting", 1.2)]),
        ('"star wars: a new hope"', [("star wars: a new hope", 1)]),
        ('"say ""no"""', [('say "no"', 1)]),
        ("  van  gogh\tstyle  :  2 ", [("van gogh style", 2)]),
        ("knife\nwine\r\n\nbeer:2\n", [("knife", 1), ("wine", 1), ("beer", 2)]),
        ("knife\u2028wine", [("knife", 1), ("wine", 1)]),
        ("knife; wine;", [("knife", 1), ("wine", 1)]),
        ("knife\uff0cwine", [("knife", 1), ("wine", 1)]),
        ("knife\u3001wine\uff1bbeer", [("knife", 1), ("wine", 1), ("beer", 1)]),
        ("knife\uff1a0.5", [("knife", 0.5)]),
        ('"van\ngogh"', [("van gogh", 1)]),
        ('"a; b\u3001c\uff0cd"', [("a; b\u3001c\uff0cd", 1)]),
        ("\u201cvan gogh, oil\u201d:1.2, wine", [("van gogh, oil", 1.2), ("wine", 1)]),
        ("\u201evan gogh, oil\u201c", [("van gogh, oil", 1)]),
        ("\u201dvan gogh, oil\u201d", [("van gogh, oil", 1)]),
        ("\u300ca\u3001b\u300d\uff1a2", [("a\u3001b", 2)]),
        ("\u00aba, b\u00bb", [("a, b", 1)]),
        ('"it is \u201cnew\u201d"', [("it is \u201cnew\u201d", 1)]),
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
        ("\u201cknife", "quotes"),
        ("knife\u201d", "quotes"),
        ("kn\u201cife", "quotes"),
        ('\u201cknife"', "quotes"),
        ("knife\u300d", "quotes"),
        ("knife:\uff12", "number"),
        ("\ud83d", "half of a character"),
        ("x" * 4001, "4,001 characters; at most 4,000"),
        (",".join(f"c{k}" for k in range(65)), "65 concepts; at most 64"),
        ("\n".join(f"c{k}" for k in range(65)), "65 concepts; at most 64"),
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


def test_too_long_to_be_tokenized():
    with pytest.raises(ConceptError, match="1,001 characters; at most 75 tokens"):
        check_length("x" * 1001)
    check_length("x" * 1000)


def test_as_many_as_there_may_be():
    assert len(parse_concepts(",".join(f"c{k}" for k in range(MAX_CONCEPTS)))) == MAX_CONCEPTS
    assert parse_concepts("x" * MAX_CHARACTERS) == (Concept("x" * MAX_CHARACTERS),)
    assert len(parse_concepts("knife," * 600)) == 1


HOSTILE = [
    " ",
    '"',
    '""',
    '"" ',
    '" "',
    '"a"',
    "\u201c",
    "\u201c\u201d",
    '"\u201c',
    ",",
    ":",
    "a:",
    ' "',
    '"x"y',
    "a ",
    "\n",
    '\\"',
    "1",
]


@pytest.mark.parametrize("piece", HOSTILE)
@pytest.mark.parametrize("end", ["", '"x"y', '"', ":", ",knife"])
def test_time_grows_with_the_length(piece, end):
    """A scanner that goes back takes seconds for one of these: a regular expression did for blanks and '"x"y'."""
    text = (piece * MAX_CHARACTERS)[: MAX_CHARACTERS - len(end)] + end
    said, start = "", time.process_time()
    try:
        parse_concepts(text)
    except ConceptError as error:
        said = str(error)
    assert time.process_time() - start < 0.25
    assert len(said) < 2 * MOST_QUOTED + 150


@pytest.mark.parametrize(
    "value", ["x" * 10**6, "\x00" * 1000, ["x" * 1000] * 1000, {"a" * 1000: 1}, 10**4000, b"x" * 1000]
)
def test_messages_quote_little(value):
    assert len(quoted(value)) <= MOST_QUOTED + 3


def test_messages_quote_what_is_nested_deeply():
    value = []
    for _ in range(100_000):
        value = [value]
    assert quoted(value).startswith("[[[")
    assert quoted(10**5000) == "a long int"
    assert quoted("short") == "'short'"
    assert quoted(0.5) == "0.5"


texts = st.text(min_size=1, max_size=30).filter(lambda text: text.split())
lists = st.text(alphabet='knife ,;:"\n\u201c\u201d\u3001\uff0c\u300c\u300d0.5', max_size=60)
weights = st.floats(0, 1e6, allow_nan=False)


@given(st.lists(st.builds(Concept, texts, weights), min_size=1, max_size=5).map(merge))
def test_any_concepts_survive_writing_and_reading(concepts):
    assert parse_concepts(format_concepts(concepts)) == concepts


@given(st.text(max_size=60) | lists | st.tuples(lists, st.integers(1, 100)).map(lambda pair: pair[0] * pair[1]))
def test_any_text_is_read_or_refused_in_time(text):
    concepts, start = None, time.process_time()
    with contextlib.suppress(ConceptError):
        concepts = parse_concepts(text)
    assert time.process_time() - start < 0.25
    if concepts is None:
        return
    assert concepts
    assert parse_concepts(format_concepts(concepts)) == concepts
    assert all(concept.text.strip() and concept.weight >= 0 for concept in concepts)
