"""Calibrations in the fake host: which one Automatic takes, when one is made, and what is said of it."""

from __future__ import annotations

import importlib
import sys
from types import SimpleNamespace

import pytest
import torch
from test_webui_glue import host  # noqa: F401

from lib_gie.core.recorder import Reading, count_cells
from lib_gie.core.scales.adapter import Adapter, AdapterInfo, save_adapter
from lib_gie.core.scales.calibrated import Calibration, CalibrationInfo, Discriminant, save_calibration
from lib_gie.errors import AdapterError
from lib_gie.options import AUTOMATIC, DEFAULT_SCALE, FIXED

STRENGTH, SIZE = -2.0, (4, 4)
INPUTS = count_cells(SIZE, 4)
PRESENT, ABSENT = 10.0, -10.0  # mean scores that are beyond every ramp


def kept(host, folder, score: float, concept: str = "knife", clip_skip: float = 1) -> str:  # noqa: F811
    """Keep a calibration by which the concept is present as this score says, whatever is read. Return its name."""
    model = importlib.import_module("lib_gie.hosts.webui.host.model")
    library = importlib.import_module("lib_gie.hosts.library")
    weights = model.weights_of(host.shared.sd_model)
    info = CalibrationInfo(
        "width-24", weights, (concept,), (Reading(noise=0, size=SIZE, predicted=True),), INPUTS, STRENGTH, (0.0, 1.0),
        conditions={"clip_skip": clip_skip},
    )  # fmt: skip
    # the mean is so far from whatever is read that every score is as wanted
    parts = Discriminant(torch.full((INPUTS,), -1e4 * score), torch.ones(INPUTS), torch.full((INPUTS,), 1e-3))
    name = library.calibration_name(concept, weights, clip_skip)
    save_calibration(Calibration(info, parts), folder / "growth-inhibitors" / f"{name}.safetensors")
    return name


def read_out(done) -> dict:
    return done.extra_generation_params["GIE read-out"]["0"][0]


def test_automatic_takes_it_where_no_adapter_is_there(host, tmp_path):  # noqa: F811
    name = kept(host, tmp_path, PRESENT)
    _, done = host.process([True, "knife"])
    assert done.infotexts[0]["GIE adapter"].startswith(f"{name} [")
    assert read_out(done)["scale"] == STRENGTH
    assert read_out(done)["in_prompt"] == 1.0


def test_what_is_not_in_the_prompt_is_not_erased(host, tmp_path):  # noqa: F811
    kept(host, tmp_path, ABSENT, "wine")
    _, done = host.process([True, "wine"])
    assert read_out(done)["scale"] == read_out(done)["in_prompt"] == 0.0


def test_a_prompt_that_names_it_has_it_in_full(host, tmp_path):  # noqa: F811
    """It is no doubt, so nothing is said of it."""
    kept(host, tmp_path, ABSENT)  # every prompt of the fake host names the knife
    p, done = host.process([True, "knife"])
    assert read_out(done)["scale"] == STRENGTH
    assert not p.comments


@pytest.mark.parametrize("change", ["checkpoint", "clip skip"])
def test_it_is_for_its_checkpoint_and_clip_skip(host, tmp_path, change):  # noqa: F811
    name = kept(host, tmp_path, PRESENT, clip_skip=2 if change == "clip skip" else 1)
    host.shared.opts.CLIP_stop_at_last_layers = 1
    if change == "checkpoint":
        host.shared.sd_model.sd_checkpoint_info = SimpleNamespace(name_for_extra="another", sha256="f" * 64)
        with pytest.raises(AdapterError, match="another checkpoint"):
            host.process([True, "knife", name])
    _, done = host.process([True, "knife"])
    assert done.infotexts[0]["GIE adapter"] == FIXED


def test_a_checkpoint_that_comes_on_the_way_gets_the_full_strength(host, tmp_path):  # noqa: F811
    kept(host, tmp_path, ABSENT, "wine")

    def another(p):
        host.shared.sd_model.sd_checkpoint_info = SimpleNamespace(name_for_extra="another", sha256="f" * 64)

    _, done = host.process([True, "wine"], before_sampling=another)
    assert read_out(done)["scale"] == STRENGTH


# -- when one is made ------------------------------------------------


@pytest.fixture
def asked(host, monkeypatch) -> list[str]:  # noqa: F811
    """The concepts that were to be calibrated; none is."""
    found: list[str] = []

    def calibrate_all(p, concepts):
        found.extend(concept.text for concept in concepts)
        return ["it was tried"]

    stub = SimpleNamespace(calibrate_all=calibrate_all)
    monkeypatch.setitem(sys.modules, "lib_gie.hosts.webui.calibration", stub)
    host.shared.opts.gie_calibrate = True
    return found


def test_each_unknown_concept_is_calibrated(host, asked, tmp_path):  # noqa: F811
    kept(host, tmp_path, PRESENT, "wine")
    p, _ = host.process([True, "knife, wine, dog"])
    assert asked == ["knife", "dog"]
    assert any("it was tried" in comment for comment in p.comments)


def test_an_admins_concepts_are_not_calibrated(host, asked, tmp_path):  # noqa: F811
    """How somebody's prompt is read must not choose how strongly they are erased."""
    kept(host, tmp_path, ABSENT, "wine")
    host.shared.cmd_opts.gie_enforce = "wine"
    host.shared.opts.gie_enforced_show_scale = True
    _, done = host.process([True, "knife, wine"])
    assert asked == ["knife"]
    assert read_out(done)["scale"] == DEFAULT_SCALE


@pytest.mark.parametrize(
    "args",
    [
        [True, "knife", FIXED],
        [False, "knife"],
        [],
        [{"enabled": True, "concepts": "knife", "rule": "value projection"}],
    ],
)
def test_nothing_is_calibrated_that_nobody_asks_for(host, asked, args):  # noqa: F811
    host.process(args)
    assert asked == []


def test_switched_off_nothing_is_calibrated(host, asked):  # noqa: F811
    host.shared.opts.gie_calibrate = False
    _, done = host.process([True, "knife"])
    assert asked == []
    assert done.infotexts[0]["GIE adapter"] == FIXED


def test_a_textual_inversions_name_is_not_calibrated(host, asked, monkeypatch):  # noqa: F811
    """Its vectors are in a file that anybody may have made."""
    plans = importlib.import_module("lib_gie.hosts.webui.request.plans")
    monkeypatch.setattr(plans, "inversions_in", lambda text, model: [torch.zeros(1)] if text == "knife" else [])
    host.process([True, "knife, dog"])
    assert asked == ["dog"]


def test_the_accordion_says_what_comes(host, tmp_path):  # noqa: F811
    plans = importlib.import_module("lib_gie.hosts.webui.request.plans")
    concepts = importlib.import_module("lib_gie.core.concepts").parse_concepts("knife, wine")
    name = kept(host, tmp_path, PRESENT, "wine")
    host.shared.opts.gie_calibrate = True
    text = plans.automatic_text(concepts, host.shared.sd_model)
    assert text == f"{AUTOMATIC} takes a calibration, which the first image makes, for knife, {name} for wine"


def test_the_list_tells_them_apart(host, tmp_path):  # noqa: F811
    """On each checkpoint the calibration is taken that was made there, unless an adapter is there."""
    library = importlib.import_module("lib_gie.hosts.library")
    kept(host, tmp_path, PRESENT)
    host.shared.sd_model.sd_checkpoint_info = SimpleNamespace(name_for_extra="another", sha256="f" * 64)
    kept(host, tmp_path, PRESENT)
    folders = [tmp_path / "shipped", tmp_path / "growth-inhibitors"]
    usable, broken = library.list_adapters(folders)
    assert ([one.adapter.kind for one in usable], broken) == (["calibrated"] * 2, {})
    assert [library.taken_for(one, usable, folders) for one in usable] == [["knife"]] * 2
    save_adapter(Adapter(AdapterInfo("width-24", 7, ("knife",), (-9.0, 0.0))), folders[1] / "own.safetensors")
    usable, _ = library.list_adapters(folders)
    assert [one.name for one in usable if library.taken_for(one, usable, folders)] == ["own"]
