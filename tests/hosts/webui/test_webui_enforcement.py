"""What an admin enforces: read strictly, never lowered by settings, never by an adapter that others may train."""

from __future__ import annotations

import argparse
import importlib
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from test_webui_glue import host  # noqa: F401

from lib_gie.core.scales.adapter import Adapter, AdapterInfo, save_adapter
from lib_gie.errors import ErasureError
from lib_gie.hosts.webui.request.arguments import add_arguments
from lib_gie.options import AUTOMATIC, BY_NAME, FIXED, LOWEST_SCALE

ROOT = Path(__file__).resolve().parents[3]


def enforcement():
    return importlib.import_module("lib_gie.hosts.webui.request.enforcement")


def parsed(tmp_path, *arguments: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_arguments(parser, tmp_path)
    return parser.parse_args(arguments)


def write(folder, name, *concepts, training=None, base="sd1"):
    save_adapter(
        Adapter(AdapterInfo(base, 16, concepts, (-5.0, 0.0), training=training or {})),
        folder / "growth-inhibitors" / f"{name}.safetensors",
    )


# -- the command line ------------------------------------------------


def test_every_time_an_argument_is_given_counts(tmp_path):
    found = parsed(tmp_path, "--gie-enforce", "knife", "--gie-enforce", "wine:0.5, gun")
    assert found.gie_enforce == ["knife", "wine:0.5, gun"]
    assert parsed(tmp_path).gie_enforce == []
    assert found.gie_enforce_strength is found.gie_enforce_floor is found.gie_tab is None


@pytest.mark.parametrize(
    "arguments",
    [
        ["--gie-enforce"], ["--gie-enforce", ""], ["--gie-enforce", ","], ["--gie-enforce", " , ,, "],
        ["--gie-enforce="], ["--gie-enforce", "knife:x"], ["--gie-enforce", '"knife'], ["--gie-enforce", "knife:0"],
        ["--gie-enforce", "knife", "--gie-enforce", ""], ["--gie-enforce", "knife:-1"], ["--gie-enforce", "knife, x:0"],
        ["--gie-enforce-strength", "0"], ["--gie-enforce-strength", "nan"], ["--gie-enforce-strength", "inf"],
        ["--gie-enforce-strength", "-1"], ["--gie-enforce-strength", "3.5"], ["--gie-enforce-strength", "abc"],
        ["--gie-enforce-strength", ""], ["--gie-enforce-strength", "9" * 5000],
        ["--gie-enforce-scale", "0"], ["--gie-enforce-scale", "1"], ["--gie-enforce-scale", "nan"],
        ["--gie-enforce-scale", "-21"], ["--gie-enforce-floor", "0.5"], ["--gie-enforce-floor", "-21"],
        ["--gie-enforce-floor", "nan"], ["--gie-enforce-floor", "weak"], ["--gie-enforce-adapter", ""],
        ["--gie-enforce-adapter", "nowhere"], ["--gie-enforce-adapter", "../growth-inhibitors/mine"],
        ["--gie-enforce-adapter", "automatic"], ["--gie-tab", "maybe"], ["--gie-tab", ""], ["--gie-e", "knife"],
        ["--gie-enforce-calibrated", "0"],
    ],
    ids=lambda arguments: " ".join(arguments)[:60],
)  # fmt: skip
def test_bad_arguments_end_the_start(tmp_path, capsys, arguments):
    write(tmp_path, "mine", "knife")
    with pytest.raises(SystemExit) as ended:
        parsed(tmp_path, *arguments)
    assert ended.value.code == 2
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert "gie" in last
    assert len(last) < 700


def test_numbers_and_names(tmp_path):
    write(tmp_path, "mine", "knife")
    found = parsed(
        tmp_path, "--gie-enforce-strength", "0.5", "--gie-enforce-scale", "-2", "--gie-enforce-floor", "-0.5",
        "--gie-enforce-adapter", "mine", "--gie-enforce-adapter", "demo-wine", "--gie-enforce-adapter", AUTOMATIC,
    )  # fmt: skip
    assert (found.gie_enforce_strength, found.gie_enforce_scale, found.gie_enforce_floor) == (0.5, -2.0, -0.5)
    assert found.gie_enforce_adapter == ["mine", "demo-wine", AUTOMATIC]
    assert parsed(tmp_path, "--gie-enforce-floor", "0").gie_enforce_floor == 0


def test_help_names_the_limits(tmp_path, capsys):
    with pytest.raises(SystemExit):
        parsed(tmp_path, "--help")
    text = " ".join(capsys.readouterr().out.split())
    assert f"at most {BY_NAME['strength'].high:g}" in text
    assert f"from {LOWEST_SCALE:g} to" in text


def test_preload_adds_them_without_torch(tmp_path):
    """It runs ahead of everything else at the WebUI's start."""
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules" / "__init__.py").write_text("")
    (tmp_path / "modules" / "paths_internal.py").write_text(f"models_path = {str(tmp_path)!r}\n")
    code = (
        f"import argparse, sys, runpy; sys.path.append({str(tmp_path)!r}); before = list(sys.path)\n"
        f"parser = argparse.ArgumentParser()\n"
        f"runpy.run_path({str(ROOT / 'preload.py')!r})['preload'](parser)\n"
        "found = parser.parse_args(['--gie-enforce', 'knife', '--gie-enforce', 'wine'])\n"
        "assert found.gie_enforce == ['knife', 'wine']\n"
        "assert sys.path == before and 'torch' not in sys.modules and 'gradio' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-I", "-c", code], check=True, cwd=tmp_path)


# -- both places ------------------------------------------------


def set_up(host, line=None, settings=None):  # noqa: F811
    for name, value in (line or {}).items():
        setattr(host.shared.cmd_opts, f"gie_enforce{name and '_' + name}", value)
    for name, value in (settings or {}).items():
        setattr(host.shared.opts, f"gie_enforced_{name}", value)


def told(found) -> list[tuple]:
    return [
        (", ".join(f"{c.text}:{c.weight:g}" for c in wish.request.concepts), wish.request.adapter,
         wish.request.strength, wish.request.scale, wish.floor)
        for wish in found
    ]  # fmt: skip


WEAK = {"strength": 0.1, "scale": -0.25, "adapter": FIXED, "floor": 0.0}


@pytest.mark.parametrize("concepts", ["", "wine", "knife:0.1", "knife, wine"])
def test_settings_weaken_nothing_of_the_command_line(host, concepts):  # noqa: F811
    set_up(host, {"": ["knife"], "floor": -0.5}, {"concepts": concepts, **WEAK})
    found = {c.key: wish for wish in enforcement().enforced_requests() for c in wish.request.concepts}
    assert told([found["knife"]]) == [("knife:1", AUTOMATIC, 1.0, -3.0, -0.5)]
    if "wine" in concepts:
        assert told([found["wine"]]) == [("wine:1", FIXED, 0.1, -0.25, 0.0)]


def test_where_both_name_a_concept_the_stronger_counts(host):  # noqa: F811
    strong = {"strength": 2.0, "floor": -0.75, "adapter": AUTOMATIC, "scale": -3.0}
    set_up(host, {"": ["knife:0.5, wine"], "adapter": [FIXED], "scale": -1.0}, {"concepts": "Knife:1.5", **strong})
    assert told(enforcement().enforced_requests()) == [
        ("wine:1", FIXED, 1.0, -1.0, 0.0),
        ("knife:1.5", FIXED, 2.0, -1.0, -0.75),
    ]
    set_up(host, settings={"adapter": FIXED, "scale": -4.0, "strength": 0.5, "floor": 0.0})
    assert told(enforcement().enforced_requests())[1] == ("knife:1.5", FIXED, 1.0, -1.0, -3.0)


@pytest.mark.parametrize(("line", "expected"), [({"scale": -6.0}, "-6"), ({"scale": -1.0}, "-1"), ({}, "-3")])
def test_the_scale_counts_where_no_adapter_fits(host, line, expected):  # noqa: F811
    """Else whoever gives one would get another, and no word of it."""
    set_up(host, {"": ["knife"], **line}, {"show_scale": True})
    _, done = host.process([])
    assert done.infotexts[0]["GIE enforced scale"] == expected


def test_all_concepts_of_the_command_line(host):  # noqa: F811
    set_up(host, {"": ["knife", "wine, knife:2"]})
    assert told(enforcement().enforced_requests()) == [("knife:2, wine:1", AUTOMATIC, 1.0, -3.0, 0.0)]
    _, done = host.process([])
    assert done.infotexts[0]["GIE enforced"] == "knife:2.0, wine"


def test_concepts_of_both_are_erased_and_told(host):  # noqa: F811
    set_up(host, {"": ["knife"]}, {"concepts": "wine", "adapter": FIXED, "scale": -1.0})
    _, done = host.process([True, "knife, wine, cat", FIXED, 1.0, -2.0])
    assert done.infotexts[0]["GIE enforced"] == "knife, wine"
    assert done.infotexts[0]["GIE concepts"] == "cat"
    assert done.infotexts[0].get("GIE enforced scale", "-3, -1") == "-3, -1"
    host.shared.opts.gie_enforced_concepts = ""
    _, fewer = host.process([True, "cat", FIXED, 1.0, -2.0])
    assert not torch.equal(torch.stack(done.images), torch.stack(fewer.images))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("concepts", ","), ("concepts", "knife:0"), ("concepts", 5), ("concepts", None), ("concepts", ["knife"]),
        ("concepts", '"knife'), ("strength", 0), ("strength", float("nan")), ("strength", "abc"), ("strength", None),
        ("strength", True), ("strength", -1), ("strength", 4), ("strength", [1]), ("strength", 10**400),
        ("scale", 0), ("scale", 1), ("scale", float("-inf")), ("scale", "x"), ("scale", None),
        ("floor", 1), ("floor", float("nan")), ("floor", None), ("floor", {}),
        ("adapter", 5), ("adapter", None), ("adapter", " "), ("adapter", "nowhere"), ("adapter", "../x"),
    ],
)  # fmt: skip
def test_bad_settings_make_no_image(host, name, value):  # noqa: F811
    set_up(host, settings={"concepts": "knife", "adapter": FIXED, name: value})
    with pytest.raises((ErasureError, ValueError)) as failure:
        host.process([])
    assert f"gie_enforced_{name}" in str(failure.value) or "there is no adapter" in str(failure.value)
    assert len(str(failure.value)) < 600
    assert not host.outputs


def test_what_a_setting_may_be(host):  # noqa: F811
    set_up(host, settings={"concepts": "knife", "adapter": FIXED, "strength": 1e-9, "scale": -1})
    assert told(enforcement().enforced_requests()) == [("knife:1", FIXED, 1e-9, -1.0, 0.0)]
    set_up(host, settings={"concepts": "  \n"})
    assert enforcement().enforced_requests() == []


@pytest.mark.parametrize("name", ["strength", "scale", "floor", "adapter"])
def test_arguments_without_concepts_make_no_image(host, name):  # noqa: F811
    set_up(host, {name: ["demo-knife"] if name == "adapter" else -0.5})
    with pytest.raises(ErasureError, match=f"--gie-enforce-{name} and without --gie-enforce"):
        host.process([])


# -- adapters ------------------------------------------------


def test_each_concept_takes_the_adapter_that_is_for_it(host, tmp_path):  # noqa: F811
    write(tmp_path, "a", "wine")
    write(tmp_path, "b", "Knife", "cat")
    set_up(host, {"": ["knife, wine"], "adapter": ["a", "b"]})
    assert told(enforcement().enforced_requests()) == [
        ("knife:1", "b", 1.0, -3.0, 0.0),
        ("wine:1", "a", 1.0, -3.0, 0.0),
    ]
    assert enforcement().enforced_adapters() == {"a", "b"}
    set_up(host, {"": ["knife, dog"]})
    with pytest.raises(ErasureError, match="none of a, b is for 'dog'"):
        enforcement().enforced_requests()
    set_up(host, {"adapter": ["a", "b", FIXED]})
    assert told(enforcement().enforced_requests())[1][:2] == ("dog:1", FIXED)


def test_automatic_trusts_no_adapter_from_the_tab(host, tmp_path):  # noqa: F811
    plans = importlib.import_module("lib_gie.hosts.webui.request.plans")
    library = importlib.import_module("lib_gie.hosts.library")
    heads = [8] * 16
    write(tmp_path, "anybodys", "knife", training={library.TRAINED_IN: library.TAB})
    folders = plans.adapter_folders()
    assert library.adapter_for("knife", "sd1", heads, folders).name == "anybodys"
    assert library.adapter_for("knife", "sd1", heads, folders, trusted=True) is None
    write(tmp_path, "the-admins", "knife")
    assert library.adapter_for("knife", "sd1", heads, folders, trusted=True).name == "the-admins"


# -- the tab ------------------------------------------------


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ({}, True),
        ({"server_name": "127.0.0.1"}, True), ({"server_name": "localhost"}, True),
        ({"server_name": "0.0.0.0"}, False), ({"server_name": "192.168.1.2"}, False), ({"server_name": "::"}, False),
        ({"listen": True}, False), ({"share": True}, False), ({"ngrok": "token"}, False),
        ({"gie_enforce": ["knife"]}, False), ({"gie_enforce": ["knife"], "gie_tab": "on"}, True),
        ({"listen": True, "gie_tab": "on"}, True), ({"gie_tab": "off"}, False),
    ],
)  # fmt: skip
def test_who_gets_the_tab(host, options, wanted):  # noqa: F811
    for name, value in options.items():
        setattr(host.shared.cmd_opts, name, value)
    assert enforcement().tab_is_wanted() is wanted


def test_no_tab_where_settings_enforce_something(host):  # noqa: F811
    set_up(host, settings={"concepts": "knife"})
    assert not enforcement().tab_is_wanted()
    set_up(host, settings={"concepts": 0})  # a mistake is no leave
    assert not enforcement().tab_is_wanted()
