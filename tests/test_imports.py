"""Who may import whom in lib_gie: its packages, other libraries, and the rooms of the WebUI.

Every import statement counts, also one inside a function or under TYPE_CHECKING: such an arrow is as hard to follow as
any other. Modules that are found by name at run time (a judge, a command) are not seen here.
"""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

ALLOWED = {
    # part of lib_gie     what it imports of lib_gie, beside itself and the files on the top        other libraries
    "": ("", "torch numpy"),
    "options": ("core.rules", ""),  # that table names the erasing rules, and loads none
    "core": ("", "torch safetensors numpy"),
    "pictures": ("core", "torch numpy PIL matplotlib"),
    "demo": ("", "torch numpy scipy safetensors PIL tqdm diffusers transformers"),
    "training": ("core pictures", "torch numpy PIL tqdm"),
    "training.judges.detector_judge": ("training demo", "torch"),
    "training.judges.nudenet_judge": ("training", "torch nudenet"),
    "hosts": ("core", "torch"),
    "hosts.diffusers": (
        "hosts.protocol hosts.erased_sampling core training.image_maker training.calibration "
        "hosts.library demo.sampling_settings demo.fixed_scale",
        "torch safetensors PIL tqdm diffusers transformers accelerate",
    ),
    "hosts.webui": (
        "hosts.protocol hosts.erased_sampling hosts.marked_rows hosts.library hosts.presets core pictures training "
        "demo.sampling_settings demo.fixed_scale demo.words",
        "torch numpy safetensors PIL tqdm fastapi pydantic gradio modules backend",
    ),
    "evaluation": (
        "core pictures demo training hosts.diffusers hosts.erased_sampling",
        "torch numpy tqdm scipy skimage diffusers",
    ),
    "diagnosis": (
        "core hosts.library hosts.diffusers.files hosts.diffusers.processes hosts.webui.host.kinds "
        "hosts.webui.host.known_extensions hosts.webui.request.arguments",
        "torch",
    ),
    "cli": ("core pictures demo training hosts evaluation diagnosis", "torch PIL tqdm"),
}
"""By part of lib_gie. The row of the longest fitting name counts. "" is the files on the top, which all may import."""

FLOORS = ("host", "request", "sampling", "shown", "page", "training", "")
"""The rooms of hosts/webui from the bottom to the top: each may import those before it. "" is guard, job and start."""

EXCEPTIONS = {
    "lib_gie": "the package's face loads each public name when it is first asked for, so nothing hangs on it",
    "lib_gie.__main__": "python -m lib_gie is the command line",
}
"""Modules whose imports are not looked at, and why."""

NO_WEBUI = {"modules", "gradio", "fastapi", "backend"}


def name_of(file: Path) -> str:
    """The module's whole name."""
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {name_of(file): file for file in sorted((ROOT / "lib_gie").rglob("*.py"))}


def imported(module: str, text: str, is_package: bool = False) -> list[str]:
    """The whole names of all modules that a text imports, wherever the statement stands."""
    package = module if is_package else module.rpartition(".")[0]
    found = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = package.rsplit(".", node.level - 1)[0] if node.level else ""
            base = ".".join(filter(None, [above, node.module]))
            whole = [f"{base}.{alias.name}" for alias in node.names]
            found += [name if name in FILES else base for name in whole]
    return found


IMPORTS = {
    name: imported(name, file.read_text(encoding="utf-8"), file.name == "__init__.py")
    for name, file in FILES.items()
    if name not in EXCEPTIONS
}


def is_within(name: str, part: str) -> bool:
    return name == part or name.startswith(f"{part}.")


def short(name: str) -> str:
    """A name within lib_gie; "" for a file on the top."""
    rest = name.removeprefix("lib_gie").removeprefix(".")
    is_on_top = "." not in rest and FILES.get(name, Path()).name != "__init__.py"
    return "" if is_on_top else rest


def row_of(module: str) -> str:
    rest = module.removeprefix("lib_gie").removeprefix(".")
    return max((part for part in ALLOWED if not part or is_within(rest, part)), key=len)


def forbidden(module: str, names: list[str]) -> list[str]:
    """Which of these imports the tables do not allow."""
    row = row_of(module)
    parts, libraries = (set(cell.split()) for cell in ALLOWED[row])
    found = []
    for name in names:
        top = name.split(".")[0]
        if top != "lib_gie":
            is_fine = top in libraries or top in sys.stdlib_module_names
        else:
            target = short(name)
            is_fine = not target or any(is_within(target, part) for part in {row, *parts} if part)
        if not is_fine:
            found.append(f"{module} imports {name}")
    return found


def floor_of(module: str) -> int:
    room = module.removeprefix("lib_gie.hosts.webui").removeprefix(".").partition(".")
    return FLOORS.index(room[0] if room[0] in FLOORS else "")


def upwards(module: str, names: list[str]) -> list[str]:
    """Which of these imports lead to a higher room of the WebUI."""
    inside = [name for name in names if is_within(name, "lib_gie.hosts.webui")]
    return [f"{module} imports {name}" for name in inside if floor_of(name) > floor_of(module)]


def circles(arrows: dict[str, list[str]]) -> list[list[str]]:
    """Ways along the arrows that lead back to where they began; each is found once."""
    found, done = [], set()

    def follow(name: str, way: list[str]) -> None:
        if name in way:
            found.append([*way[way.index(name) :], name])
        elif name not in done:
            for target in arrows.get(name, ()):
                follow(target, [*way, name])
            done.add(name)

    for name in arrows:
        follow(name, [])
    return found


def reachable(starts: list[str]) -> set[str]:
    """All modules that these import, directly or through others."""
    seen, left = set(), list(starts)
    while left:
        name = left.pop()
        if name not in seen:
            seen.add(name)
            left += IMPORTS.get(name, ())
    return seen


def test_packages_import_only_what_the_table_allows():
    assert [line for name, names in IMPORTS.items() for line in forbidden(name, names)] == []


def test_no_room_of_the_webui_imports_a_higher_one():
    webui = {name: names for name, names in IMPORTS.items() if is_within(name, "lib_gie.hosts.webui")}
    assert [line for name, names in webui.items() for line in upwards(name, names)] == []


def test_every_room_of_the_webui_has_a_floor():
    rooms = {name.split(".")[3] for name in FILES if name.startswith("lib_gie.hosts.webui.")}
    packages = {room for room in rooms if FILES[f"lib_gie.hosts.webui.{room}"].name == "__init__.py"}
    assert packages == set(FLOORS) - {""}


def test_no_imports_go_round_in_a_circle():
    assert [" -> ".join(circle) for circle in circles(IMPORTS)] == []


def test_commands_need_nothing_of_the_webui():
    """They use what its infotext and adapter library are made of, which therefore know no host."""
    commands = [name for name in IMPORTS if is_within(name, "lib_gie.cli")]
    assert {name.split(".")[0] for name in reachable(commands)} & NO_WEBUI == set()


# -- the checks themselves ------------------------------------------------


@pytest.mark.parametrize(
    ("module", "text"),
    [
        ("lib_gie.core.rows", "import diffusers"),
        ("lib_gie.core.rows", "def run():\n    from modules import shared"),
        ("lib_gie.core.scales.scale_rules", "from lib_gie.hosts.diffusers import loading"),
        ("lib_gie.options", "from .core.concepts import Concept"),
        ("lib_gie.training.labels", "if TYPE_CHECKING:\n    from lib_gie.evaluation.erasure import Row"),
        ("lib_gie.training.labels", "from lib_gie.demo.world.detector import look"),
        ("lib_gie.hosts.diffusers.texts", "from lib_gie.hosts.webui.host import model"),
        ("lib_gie.hosts.diffusers.texts", "from lib_gie.training.labels import Labelling"),
        ("lib_gie.evaluation.figures", "from ..cli import pages"),
    ],
)
def test_a_forbidden_import_is_seen(module, text):
    assert len(forbidden(module, imported(module, text))) == 1


@pytest.mark.parametrize(
    ("module", "text"),
    [
        ("lib_gie.hosts.webui.request.plan", "from lib_gie.hosts.webui.sampling.erased_generation import stack"),
        ("lib_gie.hosts.webui.page.axes", "def run():\n    from lib_gie.hosts.webui.guard import install"),
        ("lib_gie.hosts.webui.training.run", "from .. import job"),
    ],
)
def test_an_arrow_upwards_is_seen(module, text):
    assert len(upwards(module, imported(module, text))) == 1


def test_a_circle_is_seen():
    assert circles({"a": ["b"], "b": ["c"], "c": ["b"], "d": ["a"]}) == [["b", "c", "b"]]
