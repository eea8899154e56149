"""What is written into an infotext comes back as the same request."""

from __future__ import annotations

import contextlib
import json
import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib_gie.core.concepts import Concept
from lib_gie.errors import AdapterError
from lib_gie.hosts.webui.request.infotext import (
    ADAPTERS,
    ALL_KEYS,
    ENFORCED,
    ENFORCED_SCALE,
    SCALE,
    Rule,
    concepts_text,
    read_scales,
    scales_text,
    write_params,
)
from lib_gie.hosts.webui.request.parsing import Request, read_request
from lib_gie.hosts.webui.request.pasting import ENABLED, RAW, Here, read_params
from lib_gie.options import AUTOMATIC, BY_NAME, FIXED

HASH = "0123456789"
NUMBER = st.floats(0, 3)
TEXT = st.text(min_size=1, max_size=20).filter(lambda text: text.split() and text.isprintable())


def find(name: str, digest: str | None) -> str:
    """One adapter is installed here, whose weights another WebUI knows as "knife-sd1-old"."""
    if digest in (HASH, None) and name in ("knife-sd1", "knife-sd1-old"):
        return "knife-sd1"
    raise AdapterError(f"the adapter {name!r} of this image is not installed here")


HERE = Here(find)
_PARAM = re.compile(r'\s*(\w[\w \-/]+):\s*("(?:\\.|[^\\"])+"|[^,]*)(?:,|$)')


def line_of(params: dict[str, str]) -> str:
    """The WebUI's line of settings: values with comma, colon or newline become JSON strings."""

    def entry(key: str, value: str) -> str:
        quoted = json.dumps(value, ensure_ascii=False) if re.search("[,:\n]", value) else value
        return key if key == value else f"{key}: {quoted}"

    return "Steps: 8, Sampler: Euler, " + ", ".join(entry(key, value) for key, value in params.items())


def parsed(infotext: str) -> dict[str, str]:
    """As the WebUI reads an infotext: what stands in the last line if that has three entries, a value in quotes
    unquoted, one that looks like 12x34 taken for a size, an empty one forgotten."""
    last = infotext.strip().split("\n")[-1]
    found = _PARAM.findall(last)
    read = {}
    for key, value in found if len(found) >= 3 else ():
        if not value:
            continue
        if value[:1] == value[-1:] == '"':
            with contextlib.suppress(ValueError):
                value = json.loads(value)
        if re.fullmatch(r"(\d+)x(\d+)", value):
            read[f"{key}-1"], read[f"{key}-2"] = value.split("x")
        else:
            read[key] = value
    return {**read, RAW: infotext}


def through_the_webui(params: dict[str, str]) -> dict[str, str]:
    return parsed(f"a cat\nNegative prompt: a dog\n{line_of(params)}")


def request_in(params: dict[str, str]) -> Request:
    values, notice = read_params(through_the_webui(params), HERE)
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


def test_the_erasing_rule_comes_back():
    request = Request((Concept("knife"),), FIXED, scale=-1.0, rule="value projection")
    params = write_params(request, [Rule(None, None, -1.0)])
    assert params["GIE rule"] == "value projection"
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
    params = {**params, SCALE: "-2, -3", ADAPTERS: f"other [{HASH}]; {FIXED}"}
    values, notice = read_params(through_the_webui(params), HERE)
    assert "'other' of this image is not installed here" in notice
    assert read_request([values]) == Request((Concept("knife", 2), Concept("wine", 3)), FIXED, scale=-1.0)


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


@pytest.mark.parametrize(("recorded", "digest"), [("gone", HASH), ("knife-sd1", "9999999999")])
def test_missing_or_other_adapter_offers_the_recorded_scales(recorded, digest):
    params = write_params(Request((Concept("knife"), Concept("wine"))), [Rule(recorded, digest, -3.0)] * 2)
    values, said = read_params(through_the_webui({**params, SCALE: "-2.5, -1"}), HERE)
    assert "is not installed here" in said
    assert read_request([values]) == Request((Concept("knife", 2.5), Concept("wine", 1)), FIXED, scale=-1.0)


def test_recorded_scales_do_not_grow_with_the_emphasis_twice():
    params = write_params(Request((Concept("knife"),)), [Rule("gone", HASH, -3.0)])
    read = {**through_the_webui({**params, SCALE: "-6.75"}), "Prompt": "a (knife:1.5)", "Hires prompt": "a cat"}
    here = Here(find, factor=lambda prompt, concepts: 2.25 if "1.5" in prompt and concepts[0].key == "knife" else 1.0)
    assert read_request([read_params(read, here)[0]]).concepts == (Concept("knife", 3.0),)


def test_a_renamed_adapter_is_found_by_its_weights():
    params = write_params(Request((Concept("knife"),)), [Rule("knife-sd1-old", HASH, -3.0)])
    assert request_in(params).adapter == "knife-sd1"


def test_nothing_recorded():
    assert read_params({"Steps": "8"}, HERE) == (None, "")
    assert read_params(parsed("magie: a, b: c\nSteps: 8, Sampler: Euler, Seed: 1"), HERE) == (None, "")


WRITTEN = {"GIE concepts": "knife", "GIE adapter": FIXED}
UNREADABLE = {
    "GIE strength": ["x", "", "nan", "inf", "-1", "9", "1_0", "1,5", "[object Object]"],
    "GIE fixed scale": ["1", "-21", "x"],
    "GIE steps": ["0.2", "0.2 to", "0.8 to 0.2", "0.5 to 0.5", "0 to 2", "a to b", "0 to 0.5 to 1"],
    "GIE composition": ["1", "0.5 and", "0.5 and 2", "x and y"],
    "GIE concept pass": ["double", ""],
    "GIE hires pass": ["third"],
    "GIE keep composition": ["yes", "1"],
    "GIE show before": ["true"],
    "GIE show attention": ["[object Object]"],
    "GIE adapter": ["gone", f"gone [{HASH}]", "knife-sd1 [0000000000]", "[object Object]"],
    "GIE adapters": ["x", "[object Object]"],
    "GIE scale": ["x", "1", "nan", "-3, -2 | -1"],
    "GIE scale rule": ["fixed -3"],
    "GIE start": ["0"],
    "GIE end": ["1"],
    "GIE composition cross": ["0.5"],
    "gie strength": ["1"],
    "GIE something new": ["1"],
}


@pytest.mark.parametrize(("key", "value"), [(key, value) for key, values in UNREADABLE.items() for value in values])
def test_what_cannot_be_read_is_said_and_the_rest_is_kept(key, value):
    values, notice = read_params(through_the_webui({**WRITTEN, "GIE concept pass": "separate", key: value}), HERE)
    assert "cannot be read" in notice
    assert key in notice or "adapter" in notice
    assert len(notice) < 500
    assert (values["enabled"], values["concepts"]) == (True, "knife")
    assert values["concept_pass"] == "separate" or key == "GIE concept pass"
    request = read_request([values])
    assert request.strength == 1.0
    assert (request.start, request.end) == (0.0, 1.0)


ODD = {
    "GIE concepts: knife, wine:0.5, GIE adapter: Fixed scale": "knife, wine:0.5",
    "GIE concepts: knife, wine, GIE adapter: Fixed scale": "knife, wine",
    "GIE concepts: knife, wine: 0.5, GIE adapter: Fixed scale": "knife, wine: 0.5",
    "GIE concepts: knife, wine:0.5": "knife, wine:0.5",
    "GIE concepts: knife, wine, Version: v1.10.1": "knife, wine",
    "GIE concepts: [object Object], GIE adapter: Fixed scale": "",
    "GIE concepts: , GIE adapter: Fixed scale": "",
    'GIE concepts: "", GIE adapter: Fixed scale': "",
    "GIE concepts: 512x512, GIE adapter: Fixed scale": "512x512",
    'GIE concepts: "knife, GIE adapter: Fixed scale': '"knife',
    "GIE concepts: knife, GIE concepts: wine": "wine",
    "GIE strength: 0.5": "",
    "GIE enforced: nudity, gore, GIE enforced scale: -3": "nudity, gore",
    "gie concepts: knife": "",
}


@pytest.mark.parametrize(("entries", "concepts"), ODD.items())
def test_what_others_make_of_an_infotext(entries, concepts):
    values, notice = read_params(parsed(f"a cat\nSteps: 8, Sampler: Euler, Seed: 1, {entries}"), HERE)
    assert "cannot be read" in notice
    assert values["enabled"] is True
    assert values["concepts"] == concepts


@pytest.mark.parametrize(
    "infotext",
    [
        "a cat\nSteps: 8, Sampler: Euler, GIE concepts: knife, GIE adapter: Fixed scale\nTemplate: a cat",
        "a cat\nGIE concepts: knife",
        "GIE concepts: knife",
        "a cat, GIE concepts: knife, oil painting\nSteps: 8, Sampler: Euler, Seed: 1",
    ],
)
def test_concepts_where_the_webui_does_not_read_them(infotext):
    values, notice = read_params(parsed(infotext), HERE)
    assert "does not stand where" in notice or "quotes" in notice
    assert values["enabled"] is True
    assert values["concepts"].startswith("knife")


def test_what_another_webui_always_erased():
    params = {ENFORCED: concepts_text([Concept("nudity"), Concept("gore, blood")]), ENFORCED_SCALE: "-3, -2"}
    enforcing = Here(find, enforced=frozenset({"nudity", "gore, blood", "wine"}))
    assert read_params(through_the_webui(params), enforcing) == (None, "")
    values, notice = read_params(through_the_webui(params), HERE)
    assert "always erases" in notice
    assert [concept.text for concept in read_request([values]).concepts] == ["nudity", "gore, blood"]
    both = {**WRITTEN, **params}
    assert read_params(through_the_webui(both), enforcing)[1] == ""
    values, notice = read_params(through_the_webui(both), Here(find, enforced=frozenset({"nudity"})))
    assert [concept.text for concept in read_request([values]).concepts] == ["knife", "gore, blood"]


def test_what_is_disregarded_stays():
    params = through_the_webui({**WRITTEN, "GIE strength": "0.5", "GIE steps": "0 to 0.5"})
    without = {key: value for key, value in params.items() if key not in ALL_KEYS}  # the WebUI takes them away
    assert read_params(without, Here(find, skipped=frozenset(ALL_KEYS))) == (None, "")
    one = {key: value for key, value in params.items() if key != "GIE strength"}
    values, notice = read_params(one, Here(find, skipped=frozenset({"GIE strength"})))
    assert notice == ""
    assert "strength" not in values
    assert values["enabled"] is True
    one = {key: value for key, value in params.items() if key != "GIE concepts"}
    values, notice = read_params(one, Here(find, skipped=frozenset({"GIE concepts"})))
    assert notice == ""
    assert not {"enabled", "concepts"} & values.keys()
    assert "enabled" not in read_params(params, Here(find, skipped=frozenset({ENABLED})))[0]


@pytest.mark.parametrize("text", ALL_KEYS)
def test_a_concept_that_is_called_like_a_key(text):
    """The WebUI writes an entry whose value is its key without a colon."""
    concepts = (Concept(text),)
    assert request_in({"GIE concepts": concepts_text(concepts)}).concepts == concepts


KEY = st.sampled_from([*ALL_KEYS, "GIE", "gie x", "Steps", "Version"])
VALUE = st.text(alphabet='knife wine,:;"\\0.5-x[]\n\u201c', max_size=20) | st.sampled_from(
    ["knife", "knife, wine:0.5", FIXED, f"knife-sd1 [{HASH}]", "-3", "0.5 to 1", "True", "[object Object]", "512x512"]
)
ENTRIES = st.lists(st.tuples(KEY, VALUE), max_size=6)


def _time_limited(call, seconds: float = 1.0):
    start = time.process_time()
    result = call()
    assert time.process_time() - start < seconds
    return result


@given(ENTRIES, st.sampled_from([", ", ",", ",,", "\n"]), st.booleans())
def test_any_entries_are_read_or_refused_but_never_switch_it_off(entries, between, as_written):
    """Fuzzing: whatever stands there, where ``GIE concepts`` has a value either it is read or something is said."""
    pieces = [line_of({key: value}) if as_written else f"{key}: {value}" for key, value in entries]
    infotext = "a cat\nSteps: 8, Sampler: Euler, Seed: 1, " + between.join(pieces)
    values, notice = _time_limited(lambda: read_params(parsed(infotext), HERE))
    wanted = any(key.startswith("GIE ") for key, _ in entries)
    if not wanted:
        return
    assert values is None or values["enabled"] is True
    if values is not None and not notice:
        read_request([values])
    if values is None:
        assert notice == ""
        assert not any(key == "GIE concepts" for key, _ in entries)


@given(st.text(max_size=300), st.text(max_size=300))
def test_any_text_is_read(before, after):
    values, notice = _time_limited(lambda: read_params(parsed(f"{before}GIE concepts: knife{after}"), HERE))
    assert notice or values is None or read_request([values])


@pytest.mark.parametrize("piece", ['"', ': "', 'GIE concepts: "', ",", "GIE ", "a" * 50, '\\"', "knife,", " "])
def test_time_grows_with_the_infotext(piece):
    text = "Steps: 8, GIE concepts: knife, x: " + piece * (100_000 // len(piece))
    _time_limited(lambda: read_params({"GIE concepts": "knife", RAW: text}, HERE), 3.0)


def test_keys_belong_to_options():
    assert BY_NAME["concepts"].infotext == "GIE concepts"
