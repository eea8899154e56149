"""The WebUI's own parser with this extension's arguments: GIE_WEBUI_PYTHON is the Python that runs that WebUI.

Nothing is started: the arguments are read as at the start, and what ends the start ends the reading.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import not_run
import pytest

PYTHON, FOLDER = os.environ.get("GIE_WEBUI_PYTHON"), os.environ.get("GIE_WEBUI_DIR")
CODE = """
import json, sys
from modules.shared_cmd_options import cmd_opts, parser
for line in sys.stdin:
    for read in (parser.parse_args, parser.parse_known_args):  # the second with IGNORE_CMD_ARGS_ERRORS
        try:
            found = read(json.loads(line))
            found = found if read == parser.parse_args else found[0]
            print("FOUND", json.dumps({k: v for k, v in vars(found).items() if k.startswith("gie")}), flush=True)
        except SystemExit as end:
            print("ENDED", end.code, flush=True)
"""

pytestmark = pytest.mark.skipif(
    not (PYTHON and FOLDER and (Path(FOLDER or ".") / "launch.py").is_file()),
    reason=not_run.WEBUI_PYTHON,
)


def run(*arguments: str, lines: str = "") -> subprocess.CompletedProcess:
    return subprocess.run(
        [PYTHON, "-c", CODE, *arguments], cwd=FOLDER, input=lines, capture_output=True, text=True, timeout=300
    )


GOOD = ["--gie-enforce", "knife", "--gie-enforce", "wine:0.5", "--gie-enforce-floor", "-0.5"]
BAD = [
    ["--gie-enforce", ","], ["--gie-enforce", ""], ["--gie-enforce", "knife", "--gie-enforce", " "],
    ["--gie-enforce", "knife:0"], ["--gie-enforce", "knife", "--gie-enforce-strength", "0"],
    ["--gie-enforce", "knife", "--gie-enforce-strength", "nan"],
    ["--gie-enforce", "knife", "--gie-enforce-adapter", "nowhere"],
    ["--gie-enforce", "knife", "--gie-enforce-floor", "2"], ["--gie-tab", "perhaps"],
]  # fmt: skip


def test_every_one_counts_and_a_bad_one_ends_the_start():
    """Also where the WebUI is told to ignore arguments that it does not know."""
    done = run(lines="\n".join(map(json.dumps, [GOOD, *BAD])))
    said = [line.split(" ", 1) for line in done.stdout.splitlines() if line.startswith(("FOUND ", "ENDED "))]
    assert [kind for kind, _ in said] == ["FOUND"] * 2 + ["ENDED"] * 2 * len(BAD), done.stderr
    for _, text in said[:2]:
        found = json.loads(text)
        assert found["gie_enforce"] == ["knife", "wine:0.5"]
        assert found["gie_enforce_floor"] == -0.5
    assert {text for _, text in said[2:]} == {"2"}
    assert done.stderr.count("argument --gie-") == 2 * len(BAD)


@pytest.mark.parametrize("how", ["disabled_extensions", "disable_all_extensions"])
def test_no_start_without_the_extension(tmp_path, how):
    """Who has it disabled in the settings does not get round what the command line enforces."""
    extension = next(path.parent.name for path in Path(FOLDER, "extensions").glob("*/lib_gie"))
    settings = tmp_path / "config.json"
    settings.write_text(json.dumps({how: [extension] if how == "disabled_extensions" else "all"}))
    done = run("--gie-enforce", "knife", "--ui-settings-file", str(settings))
    assert done.returncode == 2
    assert "unrecognized arguments: --gie-enforce" in done.stderr
