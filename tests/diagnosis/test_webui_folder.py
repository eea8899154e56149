"""What doctor says of a WebUI's folder: real folders with the files that it looks at."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

import lib_gie
from lib_gie.assets import MODELS
from lib_gie.core.scales.adapter import Adapter, AdapterInfo, save_adapter
from lib_gie.diagnosis.finding import Finding, problems
from lib_gie.diagnosis.webui import check_webui
from lib_gie.hosts.webui.host.known_extensions import KNOWN_EXTENSIONS

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = {"torch": "2.1.2", "safetensors": "0.4.2", "numpy": "1.26.2", "gradio": "3.41.2"}
NAME = "sd-webui-gie"


def write(path: Path, text: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def make_extension(folder: Path) -> Path:
    """This extension, without most of its code and with its real models."""
    write(folder / "scripts" / "growth_inhibitors.py")
    shutil.copy(ROOT / "lib_gie" / "__init__.py", write(folder / "lib_gie" / "__init__.py"))
    (folder / "models").symlink_to(MODELS)
    return folder


def make_webui(folder: Path) -> Path:
    """AUTOMATIC1111's WebUI with an environment, a checkpoint and this extension."""
    webui = folder / "webui"
    for name in ("webui.py", "launch.py", "modules/processing.py", "models/Stable-diffusion/model.safetensors"):
        write(webui / name)
    write(webui / "CHANGELOG.md", "## 1.10.1\n\n### Bug Fixes:\n* one\n\n## 1.10.0\n")
    write(webui / "requirements_versions.txt", "Pillow==9.5.0\ngradio==3.41.2\ntorch\n")
    write(webui / "venv" / "pyvenv.cfg", "home = /usr/bin\nversion = 3.10.12\n")
    for package, version in PACKAGES.items():
        install(webui, package, version)
    make_extension(webui / "extensions" / NAME)
    return webui


def install(webui: Path, package: str, version: str) -> None:
    """Replace a package's metadata in the WebUI's environment."""
    packages = webui / "venv" / "lib" / "python3.10" / "site-packages"
    for old in packages.glob(f"{package}-*.dist-info"):
        shutil.rmtree(old)
    text = f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n"
    write(packages / f"{package}-{version}.dist-info" / "METADATA", text)


@pytest.fixture
def webui(tmp_path) -> Path:
    return make_webui(tmp_path)


def about(webui: Path, subject: str) -> Finding:
    (found,) = [finding for finding in check_webui(webui) if finding.subject == subject]
    return found


def only_problem(webui: Path) -> Finding:
    (found,) = [finding for finding in check_webui(webui) if finding.mark == "problem"]
    assert found.todo
    return found


def test_a_webui_in_which_all_is_well(webui):
    findings = check_webui(webui)
    assert [finding for finding in findings if finding.mark != "ok"] == []
    assert about(webui, "WebUI").found.startswith("AUTOMATIC1111's, version 1.10.1")
    assert about(webui, "this extension").found.startswith(f"version {lib_gie.__version__}")
    assert about(webui, "the WebUI's torch").found.startswith("version 2.1.2")
    assert about(webui, "the WebUI's Python").found.startswith("version 3.10.12")


def test_the_layout_of_windows(webui):
    (webui / "venv" / "lib" / "python3.10").rename(webui / "venv" / "Lib")
    assert problems(check_webui(webui)) == 0
    assert about(webui, "the WebUI's gradio").found.startswith("version 3.41.2")


# -- which WebUI ------------------------------------------------


def test_a_folder_that_is_no_webui(tmp_path):
    (finding,) = check_webui(tmp_path)
    assert (finding.mark, finding.subject) == ("problem", "WebUI")
    assert "lacks extensions, modules/processing.py, webui.py" in finding.found


@pytest.mark.parametrize("version", ["1.9.4", "1.11.0"])
def test_another_version(webui, version):
    write(webui / "CHANGELOG.md", f"## {version}\n")
    finding = about(webui, "WebUI")
    assert finding.mark == "note"
    assert version in finding.found


def test_a_webui_that_does_not_say_its_version(webui):
    write(webui / "CHANGELOG.md", "# Change Log for another WebUI\n")
    assert about(webui, "WebUI").mark == "note"


def test_forge(webui):
    write(webui / "modules_forge" / "forge_version.py", "version = 'f2.0.1v1.10.1'\n")
    assert "relative of Forge" in only_problem(webui).found
    write(webui / "backend" / "sampling" / "sampling_function.py")
    assert about(webui, "WebUI") == Finding("ok", "WebUI", f"Forge, version f2.0.1v1.10.1, in {webui}")
    write(webui / "modules_forge" / "forge_version.py", "version = 'neo'\n")
    assert about(webui, "WebUI").mark == "note"


# -- the extension ------------------------------------------------


def test_it_is_not_there(webui):
    shutil.rmtree(webui / "extensions" / NAME)
    assert "clone this project" in only_problem(webui).todo


def test_it_is_a_link_to_nothing(webui):
    shutil.rmtree(webui / "extensions" / NAME)
    (webui / "extensions" / NAME).symlink_to(webui / "gone")
    assert f"links to nothing: {NAME}" in only_problem(webui).found


def test_it_is_one_folder_too_deep(webui):
    (webui / "extensions" / NAME).rename(webui / "moved")
    (webui / "extensions" / "main").mkdir()
    (webui / "moved").rename(webui / "extensions" / "main" / NAME)
    assert "one folder too deep" in only_problem(webui).found


def test_it_is_there_twice(webui):
    make_extension(webui / "extensions" / "another")
    assert "is there 2 times" in only_problem(webui).found


@pytest.mark.parametrize("settings", [{"disabled_extensions": [NAME]}, {"disable_all_extensions": "extra"}])
def test_it_is_switched_off(webui, settings):
    write(webui / "config.json", json.dumps(settings))
    assert "switched off" in only_problem(webui).found


@pytest.mark.parametrize("text", ["", "[]", "{", '{"disabled_extensions": 3}'])
def test_settings_that_cannot_be_read_switch_nothing_off(webui, text):
    write(webui / "config.json", text)
    assert problems(check_webui(webui)) == 0


def test_it_has_another_version(webui):
    write(webui / "extensions" / NAME / "lib_gie" / "__init__.py", '__version__ = "0.0.1"\n')
    finding = about(webui, "this extension")
    assert (finding.mark, "0.0.1" in finding.found) == ("note", True)


def test_its_demo_model_is_a_pointer(webui):
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0123\nsize 4265146304\n"
    models = webui / "extensions" / NAME / "models"
    models.unlink()
    shutil.copytree(MODELS, models)
    write(models / "demo" / "gie-demo.safetensors", pointer)
    assert "Git LFS pointer" in only_problem(webui).found


# -- Python and packages ------------------------------------------------


def test_there_is_no_environment(webui):
    shutil.rmtree(webui / "venv")
    assert about(webui, "the WebUI's Python").mark == "note"


@pytest.mark.parametrize(
    ("version", "mark"), [("3.8.10", "problem"), ("3.10.6", "ok"), ("3.11.9", "ok"), ("3.13.1", "note")]
)
def test_versions_of_python(webui, version, mark):
    write(webui / "venv" / "pyvenv.cfg", f"implementation = CPython\nversion_info = {version}.final.0\n")
    assert about(webui, "the WebUI's Python").mark == mark


def test_an_environment_that_is_not_whole(webui):
    (webui / "venv" / "pyvenv.cfg").unlink()
    assert "no whole environment" in only_problem(webui).found


@pytest.mark.parametrize(
    ("package", "version", "mark"),
    [
        ("torch", "2.0.1", "problem"), ("torch", "2.1.2+cu121", "ok"), ("torch", "2.10.0", "ok"),
        ("gradio", "3.41.2", "ok"), ("gradio", "4.40.0", "note"),
    ],
)  # fmt: skip
def test_versions_of_packages(webui, package, version, mark):
    install(webui, package, version)
    assert about(webui, f"the WebUI's {package}").mark == mark


def test_a_package_is_missing(webui):
    shutil.rmtree(next((webui / "venv").rglob("torch-*.dist-info")))
    assert "not installed" in only_problem(webui).found


# -- models and other extensions ------------------------------------------------


def test_adapters_and_calibrations_of_the_user(webui):
    own = webui / "models" / "growth-inhibitors"
    save_adapter(Adapter(AdapterInfo("sd1", 16, ("lamp",), (-1.0, 0.0))), own / "lamp.safetensors")
    assert about(webui, "adapters in the WebUI").found == f"1 in {own} (lamp)"
    write(own / "calibrations" / "lamp-calibrated-0123.safetensors", "nonsense")
    write(own / "calibrations" / "neutral-0123.safetensors", "readings, which are made again")
    findings = check_webui(webui)
    assert [one.subject for one in findings if one.mark != "ok"] == ["calibration lamp-calibrated-0123"]
    write(own / "broken.safetensors", "nonsense")
    assert only_problem(webui).subject == "adapter broken"


def test_there_is_no_checkpoint(webui):
    (webui / "models" / "Stable-diffusion" / "model.safetensors").unlink()
    assert about(webui, "checkpoints").mark == "note"


@pytest.mark.parametrize("known", KNOWN_EXTENSIONS, ids=lambda known: known.name)
def test_extensions_that_were_tried(webui, known):
    write(webui / "extensions" / "any-name" / known.file)
    finding = about(webui, known.name)
    assert finding.mark == ("note" if known.advice else "ok")
    assert finding.todo == known.advice
    assert finding.found.startswith("any-name")
    write(webui / "config.json", json.dumps({"disabled_extensions": ["any-name"]}))
    assert about(webui, known.name) == Finding("ok", known.name, "any-name, switched off")


def test_extensions_that_nobody_tried(webui):
    write(webui / "extensions" / "unheard-of" / "scripts" / "main.py")
    assert "unheard-of" in about(webui, "other extensions").found


def test_known_are_those_that_the_documentation_has():
    text = (ROOT / "docs" / "COMPATIBILITY.md").read_text(encoding="utf-8")
    part = text.partition("\n## With other extensions\n")[2].partition("\n## ")[0]
    rows = [line.split("|")[1].strip() for line in part.splitlines() if line.startswith("| ")][1:]
    rows = [row for row in rows if not row.startswith(("-", "the same:"))]
    unmatched = [row for row in rows if not any(row.startswith(known.name) for known in KNOWN_EXTENSIONS)]
    assert (unmatched, len(rows)) == ([], len(KNOWN_EXTENSIONS))
