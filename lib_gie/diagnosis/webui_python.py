"""The Python environment in a WebUI's folder, and the packages in it, as far as files tell."""

from __future__ import annotations

import re
from pathlib import Path

from .finding import Finding
from .packages import EVERYWHERE, Expected, check_package, check_python, installed_version

_NEWEST_TRIED = "3.11"
_START = "start the WebUI once, which installs it"
_ANEW = "delete the WebUI's folder venv, name Python 3.10 in webui-user.sh or webui-user.bat, and start the WebUI"


def check_webui_python(folder: Path) -> list[Finding]:
    """Look at the WebUI's environment. One that is not in its folder is not found."""
    venv = folder / "venv"
    if not venv.is_dir():
        found = f"there is no {venv}, so nothing is known of its Python and packages"
        todo = "the WebUI makes it when it first starts; where you give it another environment, all is well"
        return [Finding("note", "the WebUI's Python", found, todo)]
    packages = [path for pattern in ("lib/python*/site-packages", "Lib/site-packages") for path in venv.glob(pattern)]
    return [_python(venv), *(_package(one, packages) for one in (*EVERYWHERE, gradio_of(folder)))]


def _python(venv: Path) -> Finding:
    version = first_in(r"^version(?:_info)?\s*=\s*(\d+\.\d+(?:\.\d+)?)", venv / "pyvenv.cfg")
    if not version:
        return Finding("problem", "the WebUI's Python", f"{venv} is no whole environment (pyvenv.cfg)", _ANEW)
    return _of_webui(check_python(version, str(venv), _ANEW, _NEWEST_TRIED))


def gradio_of(folder: Path) -> Expected:
    """Return the gradio that the WebUI's own list of packages asks for."""
    version = first_in(r"^gradio==(\S+)", folder / "requirements_versions.txt")
    return Expected("gradio", "==", version) if version else Expected("gradio")


def first_in(pattern: str, path: Path) -> str:
    """Return what a pattern's group finds first in a file, empty where it finds nothing."""
    try:
        match = re.search(pattern, path.read_text(encoding="utf-8", errors="replace"), re.MULTILINE)
    except OSError:
        return ""
    return match[1] if match else ""


def _package(expected: Expected, folders: list[Path]) -> Finding:
    return _of_webui(check_package(expected, installed_version(expected.name, folders), "problem", _START))


def _of_webui(finding: Finding) -> Finding:
    return Finding(finding.mark, f"the WebUI's {finding.subject}", finding.found, finding.todo)
