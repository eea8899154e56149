"""Calibrations of what an admin enforces, in the fake host: when they count, and what users are told of them."""

from __future__ import annotations

import importlib
import json
import sys
from types import SimpleNamespace

import pytest
import torch
from fake_host import Sampling
from test_webui_calibration import ABSENT, PRESENT, STRENGTH, kept, read_out
from test_webui_glue import host  # noqa: F401
from test_webui_inversions import Database

from lib_gie.core.concepts import Concept
from lib_gie.errors import AdapterError
from lib_gie.options import DEFAULT_SCALE, FIXED

FULL = min(STRENGTH, DEFAULT_SCALE)


@pytest.fixture
def admin(host):  # noqa: F811
    """A WebUI that always erases wine, calibrated, and tells the scales; no prompt of it names wine."""
    host.shared.cmd_opts.gie_enforce = "wine"
    host.shared.cmd_opts.gie_enforce_calibrated = None
    host.shared.opts.gie_enforced_show_scale = True
    return host


@pytest.fixture
def asked(monkeypatch) -> list[tuple[str, bool, bool]]:
    """The concepts that were to be calibrated, whether as plain words, and whether Skip skips it; none is."""
    found: list[tuple[str, bool, bool]] = []

    def calibrate_all(p, concepts, can_skip=True):
        found.extend((concept.text, concept.literal, can_skip) for concept in concepts)
        return [f"a figure of {concept.text}" for concept in concepts]

    monkeypatch.setitem(sys.modules, "lib_gie.hosts.webui.calibration", SimpleNamespace(calibrate_all=calibrate_all))
    return found


# -- when one is made ------------------------------------------------


@pytest.mark.parametrize("setting", [True, False])
def test_it_is_made_before_the_first_image(admin, asked, setting, capsys):
    """Whatever the setting for users' concepts says. What is found is for the admin's eyes."""
    admin.shared.opts.gie_calibrate = setting
    p, _ = admin.process([True, "dog"])
    assert asked == [("wine", True, False)] + [("dog", False, True)] * setting
    assert "a figure of wine" in capsys.readouterr().out
    assert not any("wine" in comment for comment in p.comments if "no adapter" not in comment)


@pytest.mark.parametrize(
    ("name", "value"),
    [("calibrated", "off"), ("scale", -4.0), ("adapter", [FIXED])],
)
def test_an_admin_who_wants_none_gets_none(admin, asked, name, value):
    setattr(admin.shared.cmd_opts, f"gie_enforce_{name}", value)
    _, done = admin.process()
    assert asked == []
    assert read_out(done)["scale"] == (-4.0 if name == "scale" else DEFAULT_SCALE)


def test_one_that_is_kept_is_not_made_again(admin, asked, tmp_path):
    kept(admin, tmp_path, ABSENT, "wine")
    admin.process()
    assert asked == []


def test_one_among_the_adapters_is_not_trusted(admin, asked, tmp_path):
    """It may have been made by an earlier version, with somebody's textual inversions in its texts."""
    kept(admin, tmp_path, ABSENT, "wine", place="growth-inhibitors")
    _, done = admin.process()
    assert asked == [("wine", True, False)]
    assert read_out(done)["scale"] == DEFAULT_SCALE


def test_a_textual_inversion_of_its_name_hinders_nothing(admin, asked):
    """The words are calibrated, without it."""
    admin.shared.cmd_opts.gie_enforce = "style"
    admin.shared.sd_model.cond_stage_model.hijack.embedding_db = Database()
    admin.process()
    assert asked == [("style", True, False)]


# -- when it counts ------------------------------------------------


def test_a_plain_prompt_without_it_is_left_alone(admin, tmp_path):
    kept(admin, tmp_path, ABSENT, "wine")
    _, done = admin.process()
    assert read_out(done)["scale"] == 0.0


def test_it_is_erased_where_it_is_present(admin, tmp_path):
    kept(admin, tmp_path, PRESENT, "wine")
    _, done = admin.process()
    assert read_out(done)["scale"] == STRENGTH


def test_a_floor_counts_as_well(admin, tmp_path):
    kept(admin, tmp_path, ABSENT, "wine")
    admin.shared.cmd_opts.gie_enforce_floor = -0.5
    _, done = admin.process()
    assert read_out(done)["scale"] == -0.5


def _networks(host, p):  # noqa: F811
    p.extra_network_data = {"lora": [SimpleNamespace(items=["style", "1"])]}


def _hypernetwork(host, p):  # noqa: F811
    host.shared.loaded_hypernetworks.append(SimpleNamespace(name="style", layers={}))
    hypernetworks = SimpleNamespace(apply_hypernetworks=lambda found, states: (states, states))
    sys.modules["modules.hypernetworks.hypernetwork"] = hypernetworks


def _convolution(host):  # noqa: F811
    return next(one for one in host.shared.sd_model.model.diffusion_model.modules() if isinstance(one, torch.nn.Conv2d))


def _tiling(host, p):  # noqa: F811
    _convolution(host).padding_mode = "circular"
    _convolution(host)._reversed_padding_repeated_twice = [1, 1, 1, 1]


def _one_way_tiling(host, p):  # noqa: F811
    layer = _convolution(host)
    layer._conv_forward = layer._conv_forward


def _hypertile(host, p):  # noqa: F811
    vars(_convolution(host))["__webui_hypertile_params"] = SimpleNamespace(enabled=True)


def _inversion(host, p):  # noqa: F811
    host.shared.sd_model.cond_stage_model.hijack.embedding_db = Database()
    p.all_prompts = ["a style"] * len(p.all_prompts)


def _clip_skip(host, p):  # noqa: F811
    host.shared.opts.CLIP_stop_at_last_layers = 2


def _checkpoint(host, p):  # noqa: F811
    host.shared.sd_model.sd_checkpoint_info = SimpleNamespace(name_for_extra="another", sha256="f" * 64)


UNLIKE = {
    "LoRAs": _networks, "a hypernetwork": _hypernetwork, "tiling": _tiling, "tiling to one side": _one_way_tiling,
    "HyperTile": _hypertile, "a textual inversion": _inversion,
}  # fmt: skip


@pytest.mark.parametrize("case", UNLIKE)
def test_other_prompts_get_the_full_strength(admin, tmp_path, case, capsys):
    """It is never weaker than the fixed scale, since the strength was found without all that. The admin is told why."""
    kept(admin, tmp_path, ABSENT, "wine")
    p, done = admin.process(at_start=lambda p: UNLIKE[case](admin, p))
    beyond = importlib.import_module("lib_gie.hosts.webui.request.beyond").BEYOND
    assert read_out(done)["scale"] == beyond * FULL
    assert "for 'wine' the fixed scale -3 took the place of the calibration's weaker answer" in capsys.readouterr().out
    assert not p.comments


@pytest.mark.parametrize(("change", "scale"), [(_checkpoint, FULL), (_clip_skip, 2 * FULL)])
def test_what_comes_on_the_way_gets_the_full_strength(admin, tmp_path, change, scale):
    admin.shared.opts.CLIP_stop_at_last_layers = 1
    kept(admin, tmp_path, ABSENT, "wine")
    _, done = admin.process(at_start=lambda p: change(admin, p))
    assert read_out(done)["scale"] == scale


@pytest.mark.parametrize("case", UNLIKE)
def test_a_users_own_concept_is_read_all_the_same(host, tmp_path, case):  # noqa: F811
    kept(host, tmp_path, ABSENT, "wine")
    _, done = host.process([True, "wine"], at_start=lambda p: UNLIKE[case](host, p))
    assert read_out(done)["scale"] == 0.0


def test_a_longer_context_gets_the_full_strength(admin, tmp_path, monkeypatch):
    kept(admin, tmp_path, ABSENT, "wine")
    monkeypatch.setattr(sys.modules["fake_host"], "LENGTH", 154)
    _, done = admin.process(sampling=Sampling())
    assert read_out(done)["scale"] == FULL


# -- who is told what ------------------------------------------------


def test_users_are_told_no_figures(admin, tmp_path):
    name = kept(admin, tmp_path, PRESENT, "wine", tells_presence=False)
    admin.shared.opts.gie_enforced_show_scale = False
    p, done = admin.process()
    assert not p.comments
    assert [value for key, value in done.infotexts[0].items() if key.startswith("GIE")] == ["wine"]
    told = read_out(done)
    assert told == {
        "concept": "wine", "scale": None, "by": "a calibration", "kind": "calibration", "present": None,
        "in_prompt": None, "always": True, "reason": "", "strength": None, "weight": None,
    }  # fmt: skip
    assert name not in json.dumps(done.extra_generation_params, default=str)


def test_users_cannot_ask_it_what_it_says(admin, tmp_path):
    name = kept(admin, tmp_path, PRESENT, "wine")
    with pytest.raises(AdapterError, match="always erases"):
        admin.process([True, "dog", name])


def test_its_inversion_takes_it_as_well(admin, tmp_path):
    """Else whoever makes one of that name would have a thing of theirs erased from every image."""
    admin.shared.cmd_opts.gie_enforce = "style"
    admin.shared.sd_model.cond_stage_model.hijack.embedding_db = Database()
    kept(admin, tmp_path, ABSENT, "style")
    _, done = admin.process()
    entries = done.extra_generation_params["GIE read-out"]["0"]
    assert [(one["concept"], one["scale"]) for one in entries] == [("style", 0.0)] * 2
    plans = importlib.import_module("lib_gie.hosts.webui.request.plans")
    assert plans._as_words([Concept("style")], admin.shared.sd_model)[0].literal
