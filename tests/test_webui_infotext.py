"""What is written into an infotext comes back as the same request."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib_gie.concepts import Concept
from lib_gie.errors import AdapterError
from lib_gie.webui.infotext import (
    ADAPTERS,
    SCALE,
    Rule,
    adapter_problem,
    concepts_text,
    read_params,
    read_scales,
    scales_text,
    write_params,
)
from lib_gie.webui.options import AUTOMATIC, BY_NAME, FIXED, Request, read_request

HASH = "0123456789"
NUMBER = st.floats(0, 3)
TEXT = st.text(min_size=1, max_size=20).filter(lambda text: text.split() and text.isprintable())


def hash_of(name: str) -> str:
    if name != "knife-sd1":
        raise AdapterError("not there")
    return HASH


def through_the_webui(params: dict[str, str]) -> dict[str, str]:
    """The WebUI's infotext line and back: values with comma, colon or newline become JSON strings; a value in quotes
    is unquoted when read, and one that looks like 12x34 is taken for a size."""

    def quote(value: str) -> str:
        return json.dumps(value, ensure_ascii=False) if re.search("[,:\n]", value) else value

    line = "Steps: 8, Sampler: Euler, " + ", ".join(f"{key}: {quote(value)}" for key, value in params.items())
    read = {}
    for key, value in re.findall(r'\s*(\w[\w \-/]+):\s*("(?:\\.|[^\\"])+"|[^,]*)(?:,|$)', line):
        value = json.loads(value) if value[:1] == value[-1:] == '"' else value
        if re.fullmatch(r"(\d+)x(\d+)", value):
            read[f"{key}-1"], read[f"{key}-2"] = value.split("x")
        else:
            read[key] = value
    return read


def request_in(params: dict[str, str]) -> Request:
    values, notice = read_params(through_the_webui(params), hash_of)
    assert notice == ""
    return read_request([values])


def test_defaults_are_left_out():
    params = write_params(Request((Concept("knife"),), FIXED), [Rule(None, None, -3.0)])
    assert params == {"GIE concepts": "knife", "GIE adapter": FIXED}


def test_every_option_comes_back():
    request = Request((Concept("red wine", 0.5),), FIXED, 0.55, -4.25, 0.1, 0.8, "separate", "second only")
    params = write_params(request, [Rule(None, None, -4.25)])
    assert params["GIE steps"] == "0.1 to 0.8"
    assert request_in(params) == request


def test_what_is_shown_comes_back():
    request = Request((Concept("knife"),), FIXED, keep_composition=True, show_before=True, show_attention=True)
    params = write_params(request, [Rule(None, None, -3.0)])
    assert "GIE composition" not in params
    assert request_in(params) == request


@given(st.floats(0, 1), st.floats(0, 1))
def test_any_shares_survive(cross, self_attention):
    shares = {"composition_cross": cross, "composition_self": self_attention}
    request = Request((Concept("knife"),), FIXED, keep_composition=True, **shares)
    assert request_in(write_params(request, [Rule(None, None, -3.0)])) == request


def test_shares_of_a_composition_that_is_not_kept_are_left_out():
    params = write_params(Request((Concept("knife"),), FIXED, composition_cross=0.5), [Rule(None, None, -3.0)])
    assert params == {"GIE concepts": "knife", "GIE adapter": FIXED}


def test_automatic_is_written_as_what_it_chose():
    request = Request((Concept("knife"),), AUTOMATIC)
    assert request_in(write_params(request, [Rule("knife-sd1", HASH, -3.0)])).adapter == "knife-sd1"
    fixed = request_in(write_params(request, [Rule(None, None, -1.5)]))
    assert (fixed.adapter, fixed.scale) == (FIXED, -1.5)


def test_automatic_with_different_choices():
    request = Request((Concept("knife"), Concept("wine")), AUTOMATIC)
    params = write_params(request, [Rule("knife-sd1", HASH, -3.0), Rule(None, None, -3.0)])
    assert params["GIE adapter"] == AUTOMATIC
    assert params[ADAPTERS] == f"knife-sd1 [{HASH}]; {FIXED}"
    assert request_in(params) == request
    assert "'other'" in adapter_problem({**params, ADAPTERS: f"other [{HASH}]; {FIXED}"}, hash_of)


@pytest.mark.parametrize(
    "text",
    ['van "gogh", oil', "a: b", "512x512", "new\nline", "\U0001f52a", '"quoted"', "back\\slash", "x", "1.5", "[a]"],
)
def test_texts_that_the_webui_could_misread(text):
    concepts = (Concept(text), Concept("wine"))
    assert request_in({"GIE concepts": concepts_text(concepts)}).concepts == concepts
    assert request_in({"GIE concepts": concepts_text(concepts[:1])}).concepts == concepts[:1]


@given(st.lists(st.tuples(TEXT, st.floats(0, 1e6)), min_size=1, max_size=3, unique_by=lambda pair: pair[0].casefold()))
def test_any_concepts_survive(pairs):
    concepts = tuple(Concept(text, weight) for text, weight in pairs)
    if len({concept.key for concept in concepts}) == len(concepts):
        assert request_in({"GIE concepts": concepts_text(concepts)}).concepts == concepts


@given(NUMBER, st.floats(-20, 0), st.floats(0, 0.5), st.floats(0.6, 1))
def test_any_numbers_survive(strength, scale, start, end):
    request = Request((Concept("knife"),), FIXED, strength, scale, start, end)
    assert request_in(write_params(request, [Rule(None, None, scale)])) == request


def test_scales():
    assert scales_text([[[-3.0]]]) == "-3"
    assert scales_text([[[-3.0, -3.0], [-1.5, -1.25]]]) == "-3, -1.5/-1.25"
    assert scales_text([[[-3.0]], [[-2.0]]]) == "-3 | -2"
    assert read_scales("-3, -1.5/-1.25") == [-3.0, -1.375]


@pytest.mark.parametrize(
    ("recorded", "notice"), [("gone", "is not installed here"), ("knife-sd1", "is not this image's")]
)
def test_missing_or_other_adapter_offers_the_recorded_scales(recorded, notice):
    params = write_params(
        Request((Concept("knife"), Concept("wine"))), [Rule(recorded, "9999999999", -3.0)] * 2
    )  # fmt: skip
    values, said = read_params(through_the_webui({**params, SCALE: "-2.5, -1"}), hash_of)
    assert notice in said
    assert read_request([values]) == Request((Concept("knife", 2.5), Concept("wine", 1)), FIXED, scale=-1.0)


def test_nothing_recorded_and_nonsense():
    assert read_params({"Steps": "8"}, hash_of) == (None, "")
    for bad in ({"GIE strength": "x"}, {"GIE steps": "1"}, {"GIE adapter": f"gone [{HASH}]"}):
        values, notice = read_params({"GIE concepts": "knife", **bad}, hash_of)
        assert values is None
        assert "cannot be read" in notice


def test_keys_belong_to_options():
    assert BY_NAME["concepts"].infotext == "GIE concepts"
