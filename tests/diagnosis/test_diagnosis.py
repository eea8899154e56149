"""What doctor says of this installation: packages, device, files."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import not_run
import pytest
import torch

from lib_gie.assets import DEMO_CHECKPOINT, MODELS
from lib_gie.diagnosis import device, packages
from lib_gie.diagnosis.device import check_device
from lib_gie.diagnosis.files import check_adapters, check_calibrations, check_demo_model, check_here
from lib_gie.diagnosis.finding import Finding, listing
from lib_gie.diagnosis.packages import COMMANDS, EVERYWHERE, LEAST_PYTHON, Expected, check_package

ROOT = Path(__file__).resolve().parents[2]


def declared(name: str) -> set[str]:
    """A list of packages in pyproject.toml. Python 3.10 cannot read TOML."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    match = re.search(rf"^{name} = \[(.*)\]$", text, re.MULTILINE)
    assert match is not None
    return set(re.findall(r'"([^"]+)"', match[1]))


def test_what_is_expected_is_what_the_project_declares():
    for name, expected in (("dependencies", EVERYWHERE), ("commands", COMMANDS)):
        assert {f"{one.name}{one.relation}{one.version}" for one in expected} == declared(name)
    assert f'requires-python = ">={LEAST_PYTHON}"' in (ROOT / "pyproject.toml").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("relation", "version", "installed", "mark"),
    [
        ("", "", "0.1", "ok"),
        (">=", "2.1", "2.1", "ok"),
        (">=", "2.1", "2.10.0+cpu", "ok"),
        (">=", "2.1", "2.0.1", "problem"),
        (">=", "2.1", "1.13", "problem"),
        ("==", "0.42.1", "0.42.1", "ok"),
        ("==", "0.42.1", "0.42.1+local", "ok"),
        ("==", "0.42.1", "0.30.0", "note"),
        ("", "", None, "problem"),
    ],
)
def test_versions(relation, version, installed, mark):
    finding = check_package(Expected("some", relation, version), installed, "problem", "install it")
    assert finding.mark == mark
    assert finding.todo == ("" if mark == "ok" else "install it")


def test_packages_of_the_commands_are_no_problem_within_a_webui(monkeypatch):
    monkeypatch.setattr(packages, "installed_version", lambda name: None if name == "diffusers" else "99")
    for commands, mark in ((True, "problem"), (False, "note")):
        (found,) = [one for one in packages.check_this(commands) if one.subject == "diffusers"]
        assert found.mark == mark


def test_a_finding_is_one_line():
    finding = Finding("ok", "a", "b\nc", "d")
    assert str(finding) == "ok       a: b c; d"
    assert listing("dbca", 2) == "a, b and 2 more"
    assert listing("ba") == "a, b"


# -- the device ------------------------------------------------


def test_the_device_is_the_one_that_commands_use():
    finding = check_device()
    assert finding.mark in ("ok", "note")
    assert ("the CPU" in finding.found) != torch.cuda.is_available() or "erase" in finding.found


@pytest.mark.skipif(torch.cuda.is_available(), reason=not_run.GPU)
@pytest.mark.parametrize("made_for", [None, "12.4"])
def test_a_card_that_torch_does_not_use(monkeypatch, made_for):
    monkeypatch.setattr(device.shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(torch.version, "cuda", made_for)
    finding = check_device()
    assert finding.mark == "note"
    assert ("made for CPUs alone" in finding.found) == (made_for is None)


def test_a_torch_that_is_broken(monkeypatch):
    def fail():
        raise OSError("libtorch.so: cannot open shared object file")

    monkeypatch.setattr(torch.cuda, "is_available", fail)
    finding = check_device()
    assert finding.mark == "problem"
    assert "libtorch.so" in finding.found


# -- files ------------------------------------------------


def test_the_files_of_this_checkout(tmp_path):
    findings = check_here([MODELS], tmp_path / "none")
    assert [one for one in findings if one.mark != "ok"] == []
    adapters = next(one for one in findings if one.subject == "adapters")
    assert adapters.found.startswith(f"{len(list(MODELS.glob('*.safetensors')))} in")
    assert findings[-1] == Finding("ok", "calibrations", f"none in {tmp_path / 'none'}")


def test_a_demo_model_that_is_not_whole(tmp_path):
    models = tmp_path / "models"
    shutil.copytree(MODELS / "demo", models / "demo")
    assert check_demo_model(models).mark == "ok"
    checkpoint = models / "demo" / DEMO_CHECKPOINT.name
    data = checkpoint.read_bytes()
    checkpoint.write_bytes(data[:-1])
    assert "breaks off" in check_demo_model(models).found
    checkpoint.write_bytes(data)
    (models / "demo" / "text_encoder" / "vocab.json").unlink()
    finding = check_demo_model(models)
    assert (finding.mark, "lacks vocab.json" in finding.found) == ("problem", True)
    assert finding.todo


def test_files_that_are_no_adapters(tmp_path):
    (tmp_path / "broken.safetensors").write_bytes(b"nonsense" * 10)
    (tmp_path / "notes.txt").write_text("no adapter", encoding="utf-8")
    found, broken = check_adapters("adapters", tmp_path, "problem")
    assert found == Finding("ok", "adapters", f"none in {tmp_path}")
    assert (broken.mark, broken.subject) == ("problem", "adapter broken")
    assert "no safetensors file" in broken.found


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason=not_run.ROOT)
def test_a_folder_that_may_not_be_read(tmp_path):
    tmp_path.chmod(0)
    try:
        assert check_calibrations(tmp_path)[0].mark == "problem"
    finally:
        tmp_path.chmod(0o700)


def test_a_folder_that_cannot_be_read(tmp_path, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", refuse)
    (finding,) = check_calibrations(tmp_path)
    assert (finding.mark, finding.found) == ("problem", f"{tmp_path} cannot be read (Permission denied)")
