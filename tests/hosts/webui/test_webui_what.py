"""The tab's first step: which list of prompts and which judge a concept that is typed or a preset bring."""

from __future__ import annotations

import importlib
import sys
from types import SimpleNamespace

import pytest
from test_webui_glue import host  # noqa: F401

from lib_gie.hosts.presets import Preset
from lib_gie.training.prompts import starter_list

SAME = "no change"
OWN = "a dragon\n[unrelated]\na cat"


@pytest.fixture
def what(host, monkeypatch):  # noqa: F811
    """The step's module, on the demo model."""
    monkeypatch.setitem(sys.modules, "gradio", SimpleNamespace(update=lambda: SAME))
    samplers = host._module("sd_samplers", visible_samplers=list)
    monkeypatch.setitem(sys.modules, "modules.sd_samplers", samplers)
    monkeypatch.setattr(sys.modules["modules"], "sd_samplers", samplers, raising=False)
    on(monkeypatch, "gie-demo")
    return importlib.import_module("lib_gie.hosts.webui.training.what")


def on(monkeypatch, family):
    monkeypatch.setattr("lib_gie.hosts.webui.training.suitable.family_now", lambda: family)


def typed(what, concept, known="", name="object", prompts=None, judge="self"):
    return what._suited(concept, known, name, starter_list(name) if prompts is None else prompts, judge)


@pytest.mark.parametrize(
    ("concept", "name", "judge"),
    [
        ("guitar", "demo-object", "detector"), ("Knife", "demo-object", "detector"),
        ("neon sign", "demo-style", "detector"), ("dragon", "demo-object", "self"), ("nudity", "nudity", "nudenet"),
    ],
)  # fmt: skip
def test_a_concept_brings_its_list_and_its_judge(what, concept, name, judge):
    assert typed(what, concept, name="violence", judge="detector") == [concept, name, starter_list(name), judge]


def test_the_judge_follows_where_the_list_stays(what):
    assert typed(what, "dragon", "knife", "demo-object", judge="detector") == ["dragon", SAME, SAME, "self"]
    assert typed(what, "knife", "dragon", "demo-object") == ["knife", SAME, SAME, "detector"]


def test_on_another_model(what, monkeypatch):
    on(monkeypatch, "sd1")
    assert typed(what, "knife", name="nudity") == ["knife", "object", starter_list("object"), "self"]
    assert typed(what, "monet style") == ["monet style", "artist-style", starter_list("artist-style"), "self"]


def test_what_somebody_has_chosen_stays(what):
    """Prompts of one's own, a judge that is usual for nothing, and all of it where the concept is the same."""
    assert typed(what, "guitar", prompts=OWN) == ["guitar", SAME, SAME, "detector"]
    assert typed(what, "guitar", judge="hand")[-1] == SAME
    assert typed(what, "guitar", "guitar", "nudity") == [SAME] * 4
    assert typed(what, '"guitar":2', "guitar", "nudity") == [SAME] * 4


@pytest.mark.parametrize("concept", ["", "  ", None, 5, "knife, wine", '"knife'])
def test_what_names_no_concept_changes_nothing(what, concept):
    assert typed(what, concept, "knife") == [SAME] * 4


@pytest.mark.parametrize("name", [None, "no list", ["object"], 3])
def test_a_list_that_there_is_not(what, name):
    assert what._suited("guitar", "", name, "anything", "self") == ["guitar", SAME, SAME, "detector"]


def test_a_preset_fills_all_in_but_keeps_ones_own_prompts(what):
    preset = Preset("styles", '"neon sign", watercolour')
    filled = ["neon sign", "neon sign", "demo-style", starter_list("demo-style"), "detector"]
    assert what._fill(preset, "object", starter_list("object"), "self") == filled
    assert what._fill(preset, "object", OWN, "self") == ["neon sign", "neon sign", SAME, SAME, "detector"]
    assert what._fill(preset, "object", starter_list("object"), "hand") == [*filled[:-1], SAME]
