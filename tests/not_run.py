"""Why tests are not run: one reason for each kind, and what a run says of them at its end.

A test is skipped for a reason of this file alone, so that a run's end has one line for each reason.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable

import pytest

_WEBUI_PAGE = 'see CONTRIBUTING.md, "Against a WebUI"'
_PAGE = 'see CONTRIBUTING.md, "Tests that are not run"'

WEBUI = f"GIE_WEBUI_URL and GIE_WEBUI_DIR name no running WebUI; {_WEBUI_PAGE}"
STOCK_WEBUI = f"GIE_WEBUI_STOCK_URL names no WebUI without the extension; {_WEBUI_PAGE}"
ENFORCED_WEBUI = f"GIE_WEBUI_ENFORCED_URL names no WebUI that was started with --gie-enforce knife; {_WEBUI_PAGE}"
WEBUI_PYTHON = f"GIE_WEBUI_PYTHON names no Python beside a WebUI in GIE_WEBUI_DIR; {_WEBUI_PAGE}"
BROWSER = f"selenium, Chromium and chromedriver are not all here; {_WEBUI_PAGE}"
WEBUIAPI = "webuiapi is not installed; pip install webuiapi"
RELOADED_WEBUI = "the WebUI has reloaded its UI since its start; start it anew, and run these tests first"
UNLOCKED_WEBUI = "the WebUI's settings are free; start it with --freeze-settings-in-sections growth_inhibitors"
LOCKED_WEBUI = "the WebUI's settings are locked; start it without --freeze-settings-in-sections"
WEBUI_WITH_TAB = "the WebUI was started with --gie-tab on; start it without"
WEBUI_CONSOLE = "the WebUI's console is not written to FOLDER.log beside its folder; start it so"
SD3 = "the WebUI cannot load SD3, whose tokenizers it downloads; run it where it can"

SGM = f"SDXL's own library, sgm, cannot be imported; {_PAGE}"
FORGE = f"GIE_FORGE_DIR names no checkout of Forge; {_PAGE}"
NO_FORGE_PYTHON = f"this Python is not Forge's; {_PAGE}"
OLDER_TORCH = "this torch is too old for what they try; make test runs them"
OLDER_DIFFUSERS = "this diffusers is too old for what they try; make test runs them"
DIFFUSERS = "diffusers is not installed; make test runs them"
LDM = "ldm is not installed; make test runs them"
NUDENET = "nudenet is not installed; make test runs them"
HATCHLING = "hatchling is not installed; make test runs them"
PIPES = "this system has no pipes with names; run them on Linux"
FULL_DEVICE = "this system has no /dev/full; run them on Linux"
UNIX_SHELL = "this system has no shell of Unix; run them on Linux or macOS"
ROOT = "root may read everything; run them as another user"
GPU = "there is a GPU; run them on a machine without one"
USERS = "this system has no users that a process can change to; run them on Linux"


def extension(name: str) -> str:
    """Return the reason where the WebUI lacks another extension."""
    return f"the WebUI has no extension {name}; install it there"


def pytest_terminal_summary(terminalreporter) -> None:
    """Write at a run's end what was skipped, in one line for each reason."""
    if skipped := terminalreporter.stats.get("skipped"):
        terminalreporter.section("not run")
        for line in _summary(skipped):
            terminalreporter.line(line)


def _summary(reports: Iterable[pytest.TestReport | pytest.CollectReport]) -> list[str]:
    """Return a line for each reason in the reports of what was skipped, the most tests first.

    A file that was skipped as a whole counts as a file: nobody knows how many tests it has.
    """
    found = defaultdict(list)
    for report in reports:
        _path, _line_number, reason = report.longrepr
        found[reason.removeprefix("Skipped: ")].append(report)
    return [_line(*group) for group in sorted(found.items(), key=lambda group: (-len(group[1]), group[0]))]


def _line(reason: str, reports: list) -> str:
    tests = sum(isinstance(report, pytest.TestReport) for report in reports)
    counts = [_count(number, word) for number, word in ((tests, "test"), (len(reports) - tests, "file")) if number]
    return f"{' and '.join(counts)} in {_place(reports)}: {reason}"


def _count(number: int, word: str) -> str:
    return f"{number} {word}" if number == 1 else f"{number} {word}s"


def _place(reports: list) -> str:
    """Return the file or the folder that all of them are in."""
    return os.path.commonpath([report.nodeid.split("::")[0] for report in reports]) or "."
