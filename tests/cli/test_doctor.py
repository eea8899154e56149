"""``lib-gie doctor``: its lines, its JSON and its exit status."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from test_webui_folder import make_webui

from lib_gie.cli import main
from lib_gie.diagnosis.packages import COMMANDS, installed_version

ROOT = Path(__file__).resolve().parents[2]
MARKS = {"ok", "note", "problem"}


@pytest.fixture(autouse=True)
def no_calibrations(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


def is_complete() -> bool:
    return all(installed_version(one.name) is not None for one in COMMANDS)


def test_each_thing_is_one_line_with_its_mark(capsys):
    code = main(["doctor"])
    *lines, empty, summary = capsys.readouterr().out.splitlines()
    assert {line.split()[0] for line in lines} <= MARKS
    found = sum(line.startswith("problem") for line in lines)
    assert (code, empty) == (int(found > 0), "")
    assert summary.startswith(f"{found or 'no'} problem")
    if is_complete():
        assert found == 0
    subjects = {line.split(":")[0].split(maxsplit=1)[1] for line in lines}
    wanted = {"lib_gie", "Python", "torch", "diffusers", "transformers", "safetensors", "numpy", "gradio"}
    assert wanted | {"device", "demo model", "adapters", "calibrations"} <= subjects


def test_json_says_the_same_and_a_problem_is_exit_status_1(tmp_path, capsys):
    webui = make_webui(tmp_path)
    assert main(["doctor", "--webui", str(webui), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["problems"] == 0
    assert {finding["mark"] for finding in report["findings"]} <= MARKS
    (webui / "extensions" / "sd-webui-gie" / "scripts" / "growth_inhibitors.py").unlink()
    assert main(["doctor", "--webui", str(webui), "--json"]) == 1
    report = json.loads(capsys.readouterr().out)
    (problem,) = [finding for finding in report["findings"] if finding["mark"] == "problem"]
    assert problem["subject"] == "this extension"
    assert report["problems"] == 1
    assert problem["todo"]


def test_a_folder_that_is_not_there(tmp_path, capsys):
    assert main(["doctor", "--webui", str(tmp_path / "gone")]) == 1
    assert f"problem  WebUI: there is no folder {tmp_path / 'gone'}; give the folder" in capsys.readouterr().out


def test_it_works_where_nothing_is_installed():
    """Without site-packages Python has its standard library alone."""
    command = [sys.executable, "-S", "-m", "lib_gie"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([*command, "doctor"], capture_output=True, text=True, check=False, env=environment)
    assert (done.returncode, done.stderr) == (1, "")
    assert "problem  torch: not installed (2.1 or newer is expected); install it in a clone" in done.stdout
    other = subprocess.run([*command, "adapters"], capture_output=True, text=True, check=False, env=environment)
    assert (other.returncode, other.stdout, other.stderr.count("\n")) == (2, "", 1)
    assert "this needs the Python library torch, which is not installed; install it" in other.stderr


def test_it_loads_no_library_that_makes_images_and_takes_seconds():
    """The limit is of processor time, since other programs may run beside the tests."""
    code = (
        "import sys, time; from lib_gie.cli import main; main(['doctor'])\n"
        "print(*sorted({'diffusers', 'transformers'} & sys.modules.keys()), time.process_time())"
    )
    start = time.monotonic()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    words = done.stdout.splitlines()[-1].split()
    assert len(words) == 1, "diffusers or transformers was loaded"
    assert float(words[0]) < 5, time.monotonic() - start
