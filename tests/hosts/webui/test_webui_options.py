"""Arguments of page, API and axes: right ones are understood, wrong ones never pass for "switched off"."""

from __future__ import annotations

import math
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib_gie.core.concepts import Concept
from lib_gie.errors import GieError, OptionError
from lib_gie.hosts.webui.request.parsing import Request, check_api_arguments, read_request
from lib_gie.options import BY_NAME, FIXED, OPTIONS

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


def test_positional_arguments_in_the_documented_order():
    request = read_request([True, "knife, wine:0.5", FIXED, 2, -4, 0.1, 0.8, "separate", "first only"])
    assert request == Request(
        (Concept("knife"), Concept("wine", 0.5)), FIXED, 2.0, -4.0, 0.1, 0.8, "separate", "first only"
    )


def test_missing_values_take_the_defaults():
    assert read_request([True, "knife"]) == Request((Concept("knife"),))
    assert read_request([True, "knife", None, None]) == Request((Concept("knife"),))
    assert read_request([{"concepts": "knife", "strength": 0.5}]) == Request((Concept("knife"),), strength=0.5)


def test_a_dict_means_on_whatever_defaults_follow_it():
    rest = [option.default for option in OPTIONS[1:]]
    assert read_request([{"concepts": "knife"}, *rest]) == Request((Concept("knife"),))
    assert read_request([{"enabled": False, "concepts": "knife"}]) is None


def test_off_is_none():
    assert read_request([]) is None
    assert read_request([False, "", "x", 99]) is None
    assert read_request([None, "knife"]) is None


def test_axes_switch_erasure_on():
    assert read_request([False, ""], {"concepts": "knife"}) == Request((Concept("knife"),))
    assert read_request([True, "knife"], {"strength": 2.0}).strength == 2
    with pytest.raises(GieError, match="empty"):
        read_request([False, ""], {"strength": 2.0})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"enabled": 1}, "enabled is 1; it must be true or false"),
        ({"enabled": "true"}, "enabled is 'true'"),
        ({"concepts": "knife", "keep_composition": "yes"}, "keep_composition is 'yes'; it must be true or false"),
        ({"concepts": "knife", "composition_cross": 1.5}, "composition_cross is 1.5"),
        ({"concepts": "knife", "show_before": 1}, "show_before is 1"),
        ({"concepts": ""}, "concept text is empty"),
        ({"concepts": ["knife"]}, "must be a text"),
        ({"adapter": 3}, "adapter is 3; it must be a text"),
        ({"strength": "1"}, "strength is '1'; it must be a number from 0 to 3"),
        ({"strength": True}, "strength is True"),
        ({"strength": math.nan}, "strength is nan"),
        ({"strength": 3.1}, "strength is 3.1; it must be a number from 0 to 3"),
        ({"scale": 1}, "scale is 1; it must be a number from -20 to 0"),
        ({"scale": -math.inf}, "scale is -inf"),
        ({"scale": -(10**400)}, "must be a number"),
        ({"start": 0.5, "end": 0.5}, "start must be below end"),
        ({"concept_pass": "both"}, "must be one of 'fused', 'separate'"),
        ({"rule": "gie"}, "must be one of 'growth inhibitors', 'value projection'"),
        ({"rule": "value projection", "concept_pass": "separate"}, "which has no concept pass"),
        ({"concept_pass": ["fused"]}, "must be one of"),
        ({"hires": "third"}, "must be one of 'both', 'first only', 'second only'"),
        ({"concept": "knife"}, "unknown argument 'concept'; known are: enabled, concepts"),
    ],
)
def test_wrong_values_say_what_is_right(values, message):
    with pytest.raises(GieError, match=message):
        read_request([{"concepts": "knife", **values}])


def test_too_many_arguments():
    with pytest.raises(OptionError, match=f"there are {len(OPTIONS)}"):
        read_request([True, "knife", *[None] * len(OPTIONS)])


@pytest.mark.parametrize(
    "entry",
    [[True, "knife"], "knife", None, {}, {"args": "knife"}, {"args": {"concepts": "knife"}}, {"arg": [True, "knife"]}],
)
def test_entries_that_the_webui_would_ignore_are_refused(entry):
    with pytest.raises(OptionError, match="alwayson_scripts"):
        check_api_arguments(entry)


def test_api_entries():
    check_api_arguments({"args": [True, "knife"]})
    check_api_arguments({"args": [{"concepts": "knife"}]})
    check_api_arguments({"args": [False]})
    with pytest.raises(OptionError, match="only argument"):
        check_api_arguments({"args": [{"concepts": "knife"}, 1]})
    with pytest.raises(OptionError, match="unknown key 'is_img2img'"):
        check_api_arguments({"args": [True, "knife"], "is_img2img": True})
    with pytest.raises(GieError, match="empty"):
        check_api_arguments({"args": [True]})


@given(st.lists(JSON, max_size=len(OPTIONS) + 1))
def test_no_input_breaks_it(args):
    """Whatever comes, the answer is a checked request, "off", or an error meant for the user."""
    try:
        request = read_request(args)
    except GieError:
        return
    if request is None:
        first = args[0] if args else None
        assert first in (False, None) or (isinstance(first, dict) and not first.get("enabled", True))
    else:
        assert request.concepts
        assert 0 <= request.strength <= 3
        assert -20 <= request.scale <= 0


@given(JSON)
def test_no_api_entry_breaks_it(entry):
    try:
        check_api_arguments(entry)
    except GieError:
        return
    assert isinstance(entry, dict)


def test_every_option_is_complete():
    assert [option.name for option in OPTIONS] == [
        "enabled", "concepts", "adapter", "strength", "scale", "start", "end", "concept_pass", "hires",
        "keep_composition", "composition_cross", "composition_self", "show_before", "show_attention",
        "rule",
    ]  # fmt: skip
    for option in OPTIONS:
        assert option.help.endswith(".")
        assert option.read(None) == option.default
    assert BY_NAME["strength"].check(2) == 2.0


LEAF = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=30) | st.sampled_from(["knife", FIXED])
)
VALUE = st.recursive(LEAF, lambda inner: st.lists(inner, max_size=16) | st.dictionaries(st.text(max_size=8), inner))
NAMED = st.dictionaries(st.sampled_from([*BY_NAME, "unknown"]), VALUE)


@given(
    VALUE | st.lists(VALUE, max_size=16).map(lambda args: {"args": args}) | NAMED.map(lambda named: {"args": [named]})
)
def test_any_body_is_understood_or_refused_in_time(entry):
    """Fuzzing: no other error than those that say what is wrong, and none that quotes all of it."""
    said, start = "", time.process_time()
    try:
        check_api_arguments(entry)
    except GieError as error:
        said = str(error)
    assert time.process_time() - start < 0.5
    assert len(said) < 600


@pytest.mark.parametrize("value", ["x" * 10**6, ["x" * 10**5] * 100, 10**400, {"x": "y" * 10**6}, [[[[[[[[1]]]]]]]]])
@pytest.mark.parametrize("name", BY_NAME)
def test_messages_quote_little(name, value):
    if name == "adapter" and isinstance(value, str):
        return  # looked up later
    with pytest.raises(GieError) as failure:
        check_api_arguments({"args": [{"concepts": "knife", name: value}]})
    assert len(str(failure.value)) < 600


def test_null_is_the_default_of_a_dict():
    assert read_request([{"concepts": "knife", "enabled": None, "strength": None}]) == Request((Concept("knife"),))
