"""A work order of the tab, checked, and how much work it is. This file knows no host.

Every value is checked here, because anything can be sent to the handlers of the page's fields without the page.
"""

from __future__ import annotations

import functools
import math
import unicodedata
from collections.abc import Collection, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from lib_gie.checks import quoted
from lib_gie.core.concepts import Concept
from lib_gie.core.scales.adapter import read_header
from lib_gie.errors import AdapterError, OptionError
from lib_gie.options import AUTOMATIC, FIXED
from lib_gie.training.fitting import check_enough
from lib_gie.training.judges import JUDGES, judge_class
from lib_gie.training.labels import Sample
from lib_gie.training.prompts import all_unrelated, bare, parse_prompts
from lib_gie.training.search import GRID
from lib_gie.training.work import Work, work_of

RANGES = {
    "count": (4, 500, 1),
    "seeds": (1, 8, 1),
    "grid": (2, len(GRID) - 1, 1),
    "steps": (4, 60, 1),
    "cfg": (1, 20, 0),
    "width": (64, 1024, 8),
    "height": (64, 1024, 8),
    "batch": (1, 32, 1),
}
"""The least and greatest value and the step of an order's numbers; step 0: any number between."""

MOST_CHARACTERS = {"concept": 1000, "name": 80, "prompts": 200_000}
_DEVICES = {"con", "prn", "aux", "nul", *(f"{port}{digit}" for port in ("com", "lpt") for digit in "0123456789¹²³")}
_FORBIDDEN = '<>:"/\\|?*;'  # in names of files on some system, or between adapters in an infotext


@dataclass(frozen=True)
class WorkOrder:
    """An adapter to train. ``prompts``: a list's text (see ``training.prompts``); ``count``: prompts at most, per kind.

    ``seeds``: images per prompt. ``grid``: how many of the scales in GRID are tried, the weakest first. ``width``,
    ``height``: in pixels. ``batch``: images made at once. ``replace``: whether an adapter of the same name and concept
    may be replaced.
    """

    concept: str
    name: str
    prompts: str
    judge: str
    count: int
    seeds: int
    grid: int
    sampler: str
    steps: int
    cfg: float
    width: int
    height: int
    batch: int
    replace: bool = False

    @property
    def bare_concept(self) -> str:
        """The concept without weight and quotes. Raises ConceptError, OptionError where there is not exactly one."""
        return bare(self.concept)

    @property
    def scales(self) -> tuple[float, ...]:
        """The scales that are tried, 0 first."""
        return GRID[: 1 + self.grid]

    def samples(self) -> list[Sample]:
        """Return every prompt with its seeds. Raises OptionError for a list without usable prompts."""
        return list(_samples(self.prompts, self.bare_concept, self.count, self.seeds))

    @property
    def stem(self) -> str:
        """The name of the adapter's file, without its ending.

        Raises OptionError for a name that some file system or this WebUI would take for something else.
        """
        name = unicodedata.normalize("NFC", self.name.strip() or "-".join(self.bare_concept.casefold().split()))
        bad = (
            not name
            or len(name) > MOST_CHARACTERS["name"]
            or not name.isprintable()
            or any(character in _FORBIDDEN for character in name)
            or name[0] in ".-"
            or name[-1] in ". "
            or name.split(".")[0].rstrip().casefold() in _DEVICES
            or _same_name(name) in (_same_name(AUTOMATIC), _same_name(FIXED))
        )
        if bad:
            raise OptionError(f"the adapter's name is {quoted(name)}; give a plain one such as my-knife")
        return name

    def path(self, folder: Path) -> Path:
        """Return where the adapter goes. Raises OptionError for a name that cannot be used."""
        return folder / f"{self.stem}.safetensors"


@functools.lru_cache(maxsize=2)  # the tab asks several times for each change of a field
def _samples(prompts: str, concept: str, count: int, seeds: int) -> tuple[Sample, ...]:
    """Return every prompt of a list's text with its seeds, at most ``count`` prompts of a kind."""
    kinds: dict[str, int] = {}
    samples = []
    for prompt, kind in parse_prompts(prompts, concept):
        kinds[kind] = kinds.get(kind, 0) + 1
        if kinds[kind] <= count:
            samples += [Sample(prompt, seed, kind) for seed in range(1 if kind == "unrelated" else seeds)]
    if all_unrelated([sample.kind for sample in samples]):
        raise OptionError("the prompts are all unrelated; give some that name or imply the concept")
    if not any(sample.kind == "unrelated" for sample in samples):
        raise OptionError(
            "no prompt is unrelated to the concept; add some under [unrelated], or the adapter erases everywhere"
        )
    check_enough({sample.prompt for sample in samples})
    return tuple(samples)


def _same_name(name: str) -> str:
    """Return a form of a name that is equal for names that some file system takes for the same."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFKC", name).casefold()).rstrip(". ")


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise OptionError(f"{name} is {quoted(value)}; it must be a text")
    if len(value) > MOST_CHARACTERS.get(name, 100):
        raise OptionError(f"{name} has {len(value):,} characters; at most {MOST_CHARACTERS.get(name, 100):,} are read")
    return value


def _number(name: str, value: Any) -> float:
    low, high, step = RANGES[name]
    known = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not known or not low <= value <= high or not math.isfinite(value):
        raise OptionError(f"{name} is {quoted(value)}; it must be a number from {low} to {high}")
    if step and (value - low) % step:
        raise OptionError(f"{name} is {value:g}; it must be {low} and a multiple of {step} more")
    return int(value) if step else float(value)


def _choice(name: str, value: Any, choices: Collection[str]) -> str:
    if not isinstance(value, str) or value not in choices:
        raise OptionError(f"{name} is {quoted(value)}; it must be one of {', '.join(choices)}")
    return value


def read_work_order(
    values: Sequence[Any], samplers: Collection[str], judges: Collection[str] = tuple(JUDGES)
) -> WorkOrder:
    """Return the work order in the fields' values. Raises OptionError for any other type, range or choice.

    ``values``: in the order of WorkOrder's fields. ``samplers``, ``judges``: the names that can be chosen.
    """
    given = named_values(values)
    return WorkOrder(**{name: read_field(name, value, samplers, judges) for name, value in given.items()})


def named_values(values: Sequence[Any]) -> dict[str, Any]:
    """Return the fields' values by name. Raises OptionError where there are too many or too few."""
    names = [field.name for field in fields(WorkOrder)]
    if len(values) != len(names):
        raise OptionError(f"{len(values)} values were given; there are {len(names)}: {', '.join(names)}")
    return dict(zip(names, values, strict=True))


def read_field(name: str, value: Any, samplers: Collection[str], judges: Collection[str] = tuple(JUDGES)) -> Any:
    """Return the value of one of WorkOrder's fields. Raises OptionError for any other type, range or choice."""
    if name in MOST_CHARACTERS:
        return _text(name, value)
    if name in RANGES:
        return _number(name, value)
    if name in ("judge", "sampler"):
        return _choice(name, value, judges if name == "judge" else samplers)
    if not isinstance(value, bool):
        raise OptionError(f"{name} is {quoted(value)}; it must be true or false")
    return value


# -- adapters that are there already ------------------------------------------------


def _namesakes(stem: str, folders: Sequence[Path]) -> list[Path]:
    found = [path for folder in folders for path in folder.glob("*.safetensors")]
    return [path for path in found if _same_name(path.stem) == _same_name(stem)]


def _is_for_alone(path: Path, concept: str) -> bool:
    try:
        concepts = read_header(path).concepts
    except AdapterError:
        return False
    return {Concept(text).key for text in concepts} == {Concept(concept).key}


def check_name(order: WorkOrder, folders: Sequence[Path], enforced: Collection[str]) -> Path:
    """Return where the adapter goes. Raises OptionError where it would take a place that it may not take.

    ``folders``: that of shipped adapters, and that of the users' own. ``enforced``: names of adapters that the admin
    has chosen for what is always erased.
    """
    shipped, own = folders
    path = order.path(own)
    taken = {_same_name(name) for name in enforced}
    if _same_name(path.stem) in taken:
        raise OptionError(f"{quoted(path.stem)} is what this WebUI always erases with; give another name")
    for namesake in _namesakes(path.stem, [shipped]):
        raise OptionError(
            f"an adapter {quoted(namesake.stem)} lies in the extension's own folder models; give another name"
        )
    for namesake in _namesakes(path.stem, [own]):
        if namesake.name != path.name or not _is_for_alone(namesake, order.bare_concept):
            raise OptionError(f"there is another adapter {quoted(namesake.stem)} already; give another name")
        if not order.replace:
            raise OptionError(
                f"there is an adapter {quoted(path.stem)} for this concept already; tick 'Replace', or give another "
                f"name"
            )
    return path


def amount(order: WorkOrder) -> Work:
    """Return an order's work; labels that an earlier training has kept save some."""
    return work_of(order.samples(), len(order.scales), judge_class(order.judge), order.steps)
