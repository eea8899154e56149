"""What the page's handlers can be sent without the page, where they need no gradio: read-out, answers of a person."""

from __future__ import annotations

import importlib
import json
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_webui_glue import host  # noqa: F401

from lib_gie.errors import OptionError
from lib_gie.hosts.webui.request.infotext import settings_line

ENTRY = {"concept": "knife", "scale": -3.0, "by": "x", "present": 0.5, "always": False}


def told(entries=None, concepts="knife", **changes) -> str:
    """A read-out of images whose infotexts name these concepts."""
    found, seeds = {"0": [{**ENTRY, **changes}]} if entries is None else entries, list(range(7, 107))
    texts = [settings_line({"Seed": seed, "GIE concepts": concepts}) for seed in seeds]
    return json.dumps({"extra_generation_params": {"GIE read-out": found}, "all_seeds": seeds, "infotexts": texts})


def as_html(host):  # noqa: F811
    return importlib.import_module("lib_gie.hosts.webui.shown.readout").as_html


def test_a_read_out_is_a_table(host):  # noqa: F811
    shown = as_html(host)(told(concepts="<b>", concept="<b>", by="a & b"))
    assert "<td>7</td><td>&lt;b&gt;</td><td></td><td>50 %</td><td>-3.00</td><td>a &amp; b</td>" in shown
    assert "and 76 more" in as_html(host)(told({str(k): [ENTRY] for k in range(100)}))


@pytest.mark.parametrize(
    "info",
    [
        None, "", "{}", "[]", "5", "null", "x", 5, ["x"], {"a": 1}, b"{}", "[" * 100_000, '{"a":' * 100_000,
        told(5), told([1]), told({"0": 5}), told({"x": [ENTRY]}), told({"9" * 5000: [ENTRY]}), told({"0": [5]}),
        told(present="1" * 10**6), told(present=[1]), told(present=1e400), told(present=10**400), told(scale=10**400),
        told(scale="x"), told(scale=True),
    ],
    ids=lambda info: str(info)[:40],
)  # fmt: skip
def test_anything_else_is_nothing(host, info):  # noqa: F811
    started = time.monotonic()
    assert as_html(host)(info) == ""
    assert time.monotonic() - started < 2


def test_what_is_shown_is_short(host):  # noqa: F811
    shown = as_html(host)(told({str(k): [{**ENTRY, "concept": "<" * 10**5}] for k in range(50)}, "<" * 10**5))
    assert "and 26 more" in shown
    assert "<<" not in shown
    assert len(shown) < 24 * 5 * 4000


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@settings(deadline=1000, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(st.sampled_from(sorted(ENTRY)), VALUES), VALUES)
def test_any_read_out(host, changes, seeds):  # noqa: F811
    whole = told(concepts='"', **changes)  # no concepts that can be read: all entries are looked at
    for info in (told(**changes), whole, told(changes), json.dumps({**json.loads(whole), "all_seeds": seeds})):
        assert isinstance(as_html(host)(info), str)


# -- answers ------------------------------------------------


@pytest.fixture
def asking(host):  # noqa: F811
    """A trainer that waits for an answer to a question of three images."""
    trainer = importlib.import_module("lib_gie.hosts.webui.training.trainer").Trainer()
    trainer.progress.state, trainer.progress.pictures = "asking", [None] * 3
    return trainer


@pytest.mark.parametrize("number", [-1, 3, 10**9, 1.0, "1", True, [0, 1], {}, float("nan")])
def test_answers_that_are_no_image(asking, number):
    with pytest.raises(OptionError, match="it must be from 0 to 2"):
        asking.answer(number)
    assert not asking._answered.is_set()


@pytest.mark.parametrize(("number", "answer"), [(0, 0), (2, 2), (None, 3)])
def test_answers(asking, number, answer):
    asking.answer(number)
    asking.answer(1)  # a second click
    assert asking._answer == answer


def test_an_answer_to_no_question_counts_for_nothing(asking):
    asking.progress.state = "running"
    asking.answer("anything")
    assert not asking._answered.is_set()
