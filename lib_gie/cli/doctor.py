"""``python -m lib_gie doctor``: what is installed and found, what is wrong with it, and what to do."""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path

from .examples import Example

_ABOUT = (
    "Says what is installed, which device would be used, which models, adapters and calibrations are there, and, with "
    "--webui, whether this extension would work in that WebUI. Each line begins with ok, note or problem; a problem "
    "says what to do. The exit status is 1 where there is a problem. Nothing is downloaded or changed."
)

EXAMPLES = (
    Example("", "Looks at this installation."),
    Example("--webui ../stable-diffusion-webui", "This needs a WebUI, here beside this folder. It need not run."),
    Example("--json", "Prints the same as one JSON object."),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.description = _ABOUT
    parser.add_argument(
        "--webui", type=Path, metavar="PATH", help="look at this folder of a WebUI, too (AUTOMATIC1111's or Forge)"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(options: argparse.Namespace) -> int:
    """Look at everything, print it, and return the exit code: 1 where there is a problem."""
    from lib_gie.diagnosis.finding import problems

    findings = _findings(options.webui)
    count = problems(findings)
    if options.json:
        print(json.dumps({"problems": count, "findings": [dataclasses.asdict(finding) for finding in findings]}))
    else:
        print("\n".join(map(str, findings)))
        print(f"\n{count or 'no'} problem{'' if count == 1 else 's'}")
    return 1 if count else 0


def _findings(webui: Path | None) -> list:
    from lib_gie.assets import adapter_folders, calibrations_folder
    from lib_gie.diagnosis.device import check_device
    from lib_gie.diagnosis.finding import Finding
    from lib_gie.diagnosis.packages import check_this, installed_version

    found = check_this(commands=webui is None)
    if any(installed_version(name) is None for name in ("torch", "safetensors", "numpy")):
        lacking = "nothing more was looked at, because that needs torch, safetensors and numpy"
        return [*found, Finding("note", "device, models, WebUI", lacking, "install them, and ask again")]
    from lib_gie.diagnosis.files import check_here
    from lib_gie.diagnosis.webui import check_webui

    found += [check_device(), *check_here(adapter_folders(), calibrations_folder())]
    return found if webui is None else found + check_webui(webui.absolute())
