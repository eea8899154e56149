"""What a run says at its end of the tests that it has not run, and that every skip has a reason which says more."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import not_run
import pytest

TESTS = Path(__file__).parent
SKIPS = {"skip", "skipif", "importorskip"}

SOME = """
import not_run
import pytest

@pytest.fixture(params=range(3))
def webui(request):
    pytest.skip(not_run.WEBUI)

@pytest.mark.skipif(True, reason=not_run.WEBUI)
def test_marked():
    pass

def test_with_a_fixture(webui):
    pass

@pytest.mark.xfail(strict=True)
def test_that_fails():
    raise AssertionError

def test_that_runs():
    pass
"""
WHOLE = """
import not_run
import pytest

pytest.importorskip("no_module_of_this_name", reason=not_run.NUDENET)
"""


@pytest.fixture
def run(tmp_path):
    """Return a function that runs pytest on files, given as texts by path, and returns what it says."""

    def run(files: dict[str, str]) -> str:
        for name, text in files.items():
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_text(text, encoding="utf-8")
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            "-p",
            "not_run",
            "--rootdir",
            tmp_path,
        ]
        environment = {**os.environ, "PYTHONPATH": str(TESTS)}
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run


def test_each_reason_has_one_line(run):
    said = run({"webui/test_one.py": SOME, "webui/test_two.py": SOME, "test_three.py": WHOLE, "test_four.py": WHOLE})
    lines = said.splitlines()
    (start,) = (number for number, line in enumerate(lines) if " not run " in line)
    assert lines[start + 1 :] == [
        f"8 tests in webui: {not_run.WEBUI}",
        f"2 files in .: {not_run.NUDENET}",
        lines[-1],
    ]
    assert lines[-1].startswith("2 passed, 10 skipped, 2 xfailed")


def test_one_file_is_named(run):
    assert f"4 tests in webui/test_one.py: {not_run.WEBUI}" in run({"webui/test_one.py": SOME})


def test_nothing_is_said_where_all_is_run(run):
    assert "not run" not in run({"test_one.py": "def test_that_runs():\n    pass\n"})


def test_every_run_says_it(pytestconfig):
    hooks = pytestconfig.hook.pytest_terminal_summary.get_hookimpls()
    assert not_run.pytest_terminal_summary in [hook.function for hook in hooks]


def reasons(tree: ast.AST) -> list[ast.expr]:
    """Return the reasons of what a file skips."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in SKIPS:
            given = [key.value for key in node.keywords if key.arg == "reason"]
            found += given or (node.args[:1] if node.func.attr == "skip" else [node])
    return found


def test_a_skip_has_a_reason_of_one_kind():
    found = []
    for path in sorted(TESTS.rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        if any(f".{name}(" in text for name in SKIPS):
            found += [(path.name, reason.lineno, ast.unparse(reason)) for reason in reasons(ast.parse(text))]
    assert {"tiny.py", "conftest.py", "test_bench.py", "test_api.py"} <= {name for name, _, _ in found}
    assert [place for place in found if not place[2].startswith("not_run.")] == [], "take a reason of not_run.py"


def test_reasons_name_headings_that_exist():
    page = (TESTS.parent / "CONTRIBUTING.md").read_text(encoding="utf-8")
    texts = [value for name, value in vars(not_run).items() if name.isupper() and isinstance(value, str)]
    headings = {text.split('"')[1] for text in texts if '"' in text}
    assert headings
    assert all(f"\n## {heading}\n" in page for heading in headings)
