"""Calibrations in the fake host: which one Automatic takes, when one is made, and what is said of it."""

from __future__ import annotations

import importlib
import sys
from types import SimpleNamespace

import pytest
import torch
from test_webui_glue import host  # noqa: F401

from lib_gie.core.call import UNetCall
from lib_gie.core.recorder import Reading, count_cells
from lib_gie.core.scales.adapter import Adapter, AdapterInfo, save_adapter
from lib_gie.core.scales.calibrated import Calibration, CalibrationInfo, Discriminant, save_calibration
from lib_gie.errors import AdapterError, ErasureError
from lib_gie.options import AUTOMATIC, FIXED

STRENGTH, SIZE = -2.0, (8, 8)
INPUTS = count_cells(SIZE, 4)
PRESENT, ABSENT = 10.0, -10.0  # mean scores that are beyond every ramp


def kept(
    host,  # noqa: F811
    folder,
    score: float,
    concept: str = "knife",
    clip_skip: float = 1,
    place: str = "growth-inhibitors/calibrations",
    tells_presence: bool = True,
) -> str:
    """Keep a calibration by which the concept is present as this score says, whatever is read. Return its name."""
    model = importlib.import_module("lib_gie.hosts.webui.host.model")
    library = importlib.import_module("lib_gie.hosts.library")
    weights = model.weights_of(host.shared.sd_model)
    info = CalibrationInfo(
        "width-24", weights, (concept,), (Reading(noise=0, size=SIZE, predicted=True),), INPUTS, STRENGTH, (0.0, 1.0),
        tells_presence, conditions={"clip_skip": clip_skip, "cfg": 7.0},
    )  # fmt: skip
    # the mean is so far from whatever is read that every score is as wanted
    parts = Discriminant(torch.full((INPUTS,), -1e4 * score), torch.ones(INPUTS), torch.full((INPUTS,), 1e-3))
    name = library.calibration_name(concept, weights, clip_skip)
    save_calibration(Calibration(info, parts), folder / place / f"{name}.safetensors")
    return name


def read_out(done) -> dict:
    return done.extra_generation_params["GIE read-out"]["0"][0]


def test_automatic_takes_it_where_no_adapter_is_there(host, tmp_path):  # noqa: F811
    name = kept(host, tmp_path, PRESENT)
    _, done = host.process([True, "knife"])
    assert done.infotexts[0]["GIE adapter"].startswith(f"{name} [")
    assert read_out(done)["scale"] == STRENGTH
    assert read_out(done)["in_prompt"] == 1.0


def test_one_among_the_adapters_is_found_as_well(host, tmp_path):  # noqa: F811
    """That was their place once, and whoever has a file may put it there under a name of their own."""
    name = kept(host, tmp_path, PRESENT, place="growth-inhibitors")
    folder = tmp_path / "growth-inhibitors"
    (folder / f"{name}.safetensors").rename(folder / "mine.safetensors")
    _, done = host.process([True, "knife"])
    assert done.infotexts[0]["GIE adapter"].startswith("mine [")


def test_it_is_asked_for_by_name_and_in_no_list(host, tmp_path):  # noqa: F811
    name = kept(host, tmp_path, ABSENT, "wine")
    installed = importlib.import_module("lib_gie.hosts.webui.request.installed")
    _, done = host.process([True, "wine", name])
    assert read_out(done)["scale"] == 0.0
    digest = installed.find_named(name).digest
    assert installed.find_of_infotext(name, digest).name == installed.find_of_infotext("gone", digest).name == name
    assert name not in installed.adapter_names()
    with pytest.raises(AdapterError) as refused:
        installed.find_named("nowhere")
    assert name not in str(refused.value)


def test_size_and_cfg_scale_are_no_matter(host, tmp_path):  # noqa: F811
    kept(host, tmp_path, ABSENT, "wine")
    plans = importlib.import_module("lib_gie.hosts.webui.request.plans")
    request = importlib.import_module("lib_gie.hosts.webui.request.parsing").read_request([True, "wine"])
    plan = plans.make_plan(request, host.shared.sd_model)
    assert plans.differences(plan, SimpleNamespace(cfg_scale=2.0, height=512, width=256)) == []
    host.shared.opts.CLIP_stop_at_last_layers = 2
    assert "clip skip 1, not 2" in plans.differences(plan, SimpleNamespace(cfg_scale=2.0))[0]


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


def test_where_prompts_cannot_be_read_by_themselves_it_gets_the_full_strength(host, tmp_path, monkeypatch):  # noqa: F811
    """An inpainting model's autoencoder that fails: with the user's picture the reading would say nothing."""

    def fails(model, sizes):
        raise RuntimeError("no memory")

    kept(host, tmp_path, ABSENT, "wine")
    monkeypatch.setattr(importlib.import_module("lib_gie.hosts.webui.sampling.loaded_model"), "TextCalls", fails)
    _, done = host.process([True, "wine"])
    assert read_out(done)["scale"] == STRENGTH
    assert "no memory" in host.reported[0]


def test_an_inpainting_models_calls_are_made_with_the_blank_picture(host, monkeypatch):  # noqa: F811
    pictures = importlib.import_module("lib_gie.hosts.webui.host.pictures")
    made, small = [], (4, 4)

    def blank(model, size):
        made.append(size)
        return torch.full((1, 5, *size), 0.5)

    monkeypatch.setattr(pictures, "blank_picture", blank)
    texts = pictures.TextCalls(host.shared.sd_model, [small])
    call = UNetCall((torch.randn(2, 9, 8, 8), torch.ones(2)), {"context": torch.randn(2, 77, 24)})
    found = texts.of(call, small)
    assert found.latents.shape == (2, 9, *small)
    assert torch.equal(found.latents[:, 4:], torch.full((2, 5, *small), 0.5))
    assert torch.equal(found.context, call.context)
    assert found.at_noise(0, small).latents[:, 4:].unique().tolist() == [0.5]
    assert made == [small]  # at once, and not within a call
    with pytest.raises(ErasureError):
        texts.of(call, (8, 8))


def test_another_models_calls_stay_as_they_are(host):  # noqa: F811
    pictures = importlib.import_module("lib_gie.hosts.webui.host.pictures")
    call = UNetCall((torch.randn(1, 4, 8, 8), torch.ones(1)), {"context": torch.randn(1, 77, 24)})
    assert pictures.TextCalls(host.shared.sd_model, [SIZE]).of(call, SIZE) is call


# -- when one is made ------------------------------------------------


@pytest.fixture
def asked(host, monkeypatch) -> list[str]:  # noqa: F811
    """The concepts that were to be calibrated; none is."""
    found: list[str] = []

    def calibrate_all(p, concepts, can_skip=True):
        found.extend(concept.text for concept in concepts)
        return ["it was tried"] if concepts else []

    stub = SimpleNamespace(calibrate_all=calibrate_all)
    monkeypatch.setitem(sys.modules, "lib_gie.hosts.webui.calibration", stub)
    host.shared.opts.gie_calibrate = True
    return found


def test_each_unknown_concept_is_calibrated(host, asked, tmp_path):  # noqa: F811
    kept(host, tmp_path, PRESENT, "wine")
    p, _ = host.process([True, "knife, wine, dog"])
    assert asked == ["knife", "dog"]
    assert any("it was tried" in comment for comment in p.comments)


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
    concepts = importlib.import_module("lib_gie.core.concepts").parse_concepts("knife, dog")
    monkeypatch.setattr(plans, "inversions_in", lambda text, model: [torch.zeros(1)] if text == "knife" else [])
    host.process([True, "knife, dog"])
    assert asked == ["dog"]
    told = plans.automatic_text(concepts, host.shared.sd_model)
    made = "a calibration, which the first image makes"
    assert told == f"Now {AUTOMATIC} takes for knife the fixed scale, for dog {made}."


def test_nothing_is_said_of_a_concept_that_is_too_long(host):  # noqa: F811
    """No image is made for it, and the line says already that it is too long."""
    plans = importlib.import_module("lib_gie.hosts.webui.request.plans")
    concept = importlib.import_module("lib_gie.core.concepts").Concept("word " * 76)
    assert plans.automatic_text([concept], host.shared.sd_model) == ""


def test_the_accordion_says_what_comes(host, tmp_path):  # noqa: F811
    plans = importlib.import_module("lib_gie.hosts.webui.request.plans")
    concepts = importlib.import_module("lib_gie.core.concepts").parse_concepts("knife, wine")
    name = kept(host, tmp_path, PRESENT, "wine")
    host.shared.opts.gie_calibrate = True
    text = plans.automatic_text(concepts, host.shared.sd_model)
    made = "a calibration, which the first image makes"
    assert text == f"Now {AUTOMATIC} takes for knife {made}, for wine the calibration {name}."


def test_the_list_tells_them_apart(host, tmp_path):  # noqa: F811
    """On each checkpoint the calibration is taken that was made there, unless an adapter is there."""
    library = importlib.import_module("lib_gie.hosts.library")
    kept(host, tmp_path, PRESENT, place="growth-inhibitors")
    host.shared.sd_model.sd_checkpoint_info = SimpleNamespace(name_for_extra="another", sha256="f" * 64)
    kept(host, tmp_path, PRESENT, place="growth-inhibitors")
    folders = [tmp_path / "shipped", tmp_path / "growth-inhibitors"]
    usable, broken = library.list_adapters(folders)
    assert ([one.adapter.kind for one in usable], broken) == (["calibrated"] * 2, {})
    assert [library.taken_for(one, usable, folders) for one in usable] == [["knife"]] * 2
    save_adapter(Adapter(AdapterInfo("width-24", 7, ("knife",), (-9.0, 0.0))), folders[1] / "own.safetensors")
    usable, _ = library.list_adapters(folders)
    assert [one.name for one in usable if library.taken_for(one, usable, folders)] == ["own"]
