"""Which packages are installed, beside those that are expected. Nothing is imported: their metadata is read."""

from __future__ import annotations

import importlib.metadata
import platform
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import lib_gie

from .finding import Finding, Mark

LEAST_PYTHON = "3.10"
_LEAST, _EXACT = ">=", "=="


@dataclass(frozen=True)
class Expected:
    """One package. ``relation`` and ``version``: as in pyproject.toml; both are empty where any version will do."""

    name: str
    relation: str = ""
    version: str = ""

    @property
    def text(self) -> str:
        """What is expected, in words; empty where any version will do."""
        if not self.relation:
            return ""
        return f"{self.version} or newer is expected" if self.relation == _LEAST else f"{self.version} is expected"

    def suits(self, installed: str) -> bool:
        """Tell whether an installed version is as expected."""
        if self.relation == _EXACT:
            return installed.partition("+")[0] == self.version
        return not self.relation or numbers(installed) >= numbers(self.version)


EVERYWHERE = (Expected("torch", _LEAST, "2.1"), Expected("safetensors"), Expected("numpy"))
"""What all of lib_gie needs, in a WebUI as well."""

COMMANDS = (
    Expected("diffusers", _EXACT, "0.42.1"),
    Expected("transformers", _EXACT, "5.23.0"),
    Expected("accelerate", _EXACT, "1.15.0"),
    Expected("matplotlib", _LEAST, "3.8"),
    Expected("pillow", _LEAST, "10.1"),
    Expected("scikit-image", _LEAST, "0.25"),
    Expected("scipy"),
    Expected("tqdm"),
)
"""What the commands and ``GrowthInhibitors`` need besides."""

_INSTALL = 'in a clone of this project: python -m pip install ".[commands]"'


def numbers(version: str) -> tuple[int, ...]:
    """Return the numbers that a version begins with: (2, 1) of "2.1+cpu"."""
    return tuple(map(int, re.findall(r"\d+", version.partition("+")[0])))


def installed_version(name: str, folders: Sequence[Path] | None = None) -> str | None:
    """Return a package's version, None where there is none. ``folders``: where to look; None: where Python does."""
    where = sys.path if folders is None else [str(folder) for folder in folders]
    found = next(iter(importlib.metadata.distributions(name=name, path=where)), None)
    return None if found is None else found.version


def check_this(commands: bool = True) -> list[Finding]:
    """Look at lib_gie, Python and the packages here. ``commands``: whether those of the commands have to be there."""
    place = Path(lib_gie.__file__).parent
    found = [
        Finding("ok", "lib_gie", f"version {lib_gie.__version__}, in {place}"),
        check_python(platform.python_version(), sys.executable, "make an environment with a newer Python"),
    ]
    install = f"install it {_INSTALL}"
    found += [check_package(one, installed_version(one.name), "problem", install) for one in EVERYWHERE]
    lacking: Mark = "problem" if commands else "note"
    found += [check_package(one, installed_version(one.name), lacking, install) for one in COMMANDS]
    gradio = installed_version("gradio")
    shown = "not installed, and nothing but a WebUI needs it" if gradio is None else f"version {gradio}"
    return [*found, Finding("ok", "gradio", shown)]


def check_python(version: str, place: str, todo: str, tried: str = "") -> Finding:
    """Look at a version of Python. ``tried``: the newest that is known to work; empty where none is too new."""
    shown = f"version {version}, {place}"
    if numbers(version)[:2] < numbers(LEAST_PYTHON):
        return Finding("problem", "Python", f"{shown}; {LEAST_PYTHON} or newer is expected", todo)
    if tried and numbers(version)[:2] > numbers(tried):
        return Finding("note", "Python", f"{shown}; {tried} or older is expected", todo)
    return Finding("ok", "Python", shown)


def check_package(expected: Expected, version: str | None, lacking: Mark, todo: str) -> Finding:
    """Look at one package. ``version``: the installed one; ``lacking``: the mark where there is none."""
    told = f" ({expected.text})" if expected.text else ""
    if version is None:
        return Finding(lacking, expected.name, f"not installed{told}", todo)
    if expected.suits(version):
        return Finding("ok", expected.name, f"version {version}{told}")
    mark: Mark = "problem" if expected.relation == _LEAST else "note"
    return Finding(mark, expected.name, f"version {version}{told}", todo)
