"""The figures of methods in varied settings, and the page that shows them, docs/RESULTS_VARIED.md."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lib_gie.core.scales.calibrated import CALIBRATED

from .comparison import Comparison
from .figures import Share, as_json, table
from .generate import USUAL
from .measures import MethodFigures, compare
from .page_parts import UNCERTAINTY, made_by, method_points, paragraph, points
from .variations import FACTORS, Setting


def usual_methods(scale: float) -> list[str]:
    """Return the methods that are measured by default. ``scale``: the best fixed one."""
    return ["adapter", CALIBRATED, f"fixed scale {scale:g}"]


@dataclass
class VariedFigures:
    """One method's figures in one setting, for one kind of prompt.

    ``shown``: of the images without erasure whose prompts ask for the concept, those that show it. A setting may draw
    it less often.
    """

    factor: str
    setting: str
    figures: MethodFigures
    shown: Share = field(default_factory=Share)

    def as_json(self) -> dict:
        """Return one object of the command's JSON list."""
        shown, interval = as_json(self.shown)
        return {
            "factor": self.factor,
            "setting": self.setting,
            **self.figures.as_json(),
            "shown": shown,
            "shown_ci": interval,
        }


def figures_in(setting: Setting, comparison: Comparison) -> list[VariedFigures]:
    """Return the figures of all methods of a comparison that covers a setting's jobs."""
    result = []
    for name, outcomes in comparison.after.items():
        after = {job: outcomes[job] for job in setting.jobs if job in outcomes}
        for row in compare(name, comparison.before, after):
            found = VariedFigures(setting.factor, setting.label, row)
            for job in after:
                if job.prompt.kind == row.prompts != "unrelated":
                    found.shown.add(job.prompt.concept in comparison.before[job].shown)
            result.append(found)
    return result


def measure(
    pipe: Any, settings: Sequence[Setting], names: Sequence[str], folder: Path, *, keep: Path | None, model: str
) -> list[VariedFigures]:
    """Measure methods in all settings. Jobs that settings share are made once. The arguments are those of Comparison.

    The figures are in the order of the settings.
    """
    comparisons = {}
    for sampling in dict.fromkeys(setting.sampling for setting in settings):
        jobs = dict.fromkeys(job for setting in settings if setting.sampling == sampling for job in setting.jobs)
        made = Comparison(pipe, list(jobs), names, folder, keep=keep, model=model, sampling=sampling)
        made.run()
        comparisons[sampling] = made
    return [row for setting in settings for row in figures_in(setting, comparisons[setting.sampling])]


# -- tables and page ------------------------------------------------

TITLES = {
    "concepts": "Number of concepts erased at once",
    "length": "Length of the prompt",
    "position": "Place of the concept in the prompt",
    "steps": "Sampling steps",
    "cfg": "CFG scale",
}
_MEANINGS = {
    "concepts": (
        "The prompt's concept is erased together with others of the eight things: those that follow it in the list, "
        "and after the last one the first. What is left is that of the prompt's own concept. None of the erased things "
        "counts as kept or unharmed."
    ),
    "length": (
        'The prompts are of the kind "named". They are short as they are, or have words behind them that mean nothing '
        '("detailed, soft light"): up to 77 tokens, which the text encoder reads at once, or up to 150, which it reads '
        "in two parts."
    ),
    "position": "The same prompts stand among such words, 77 tokens in all: first, in the middle, or last.",
    "steps": "The usual number of steps is 20.",
    "cfg": "The CFG scale says how strongly the image is to follow the prompt. The usual one is 4.",
}


def factor_table(rows: Sequence[VariedFigures]) -> str:
    """Return the table of one factor's figures."""
    header = ("setting", "method", "prompts", "images", "shown before", "left", "kept", "unharmed", "replaced")
    lines = [
        (row.setting, of.method, of.prompts, of.unharmed.total, row.shown, of.left, of.kept, of.unharmed, of.replaced)
        for row in rows
        for of in [row.figures]
    ]
    return table(header, lines)


def _by_factor(rows: Sequence[VariedFigures]) -> dict[str, list[VariedFigures]]:
    return {factor: own for factor in FACTORS if (own := [row for row in rows if row.factor == factor])}


def as_text(rows: Sequence[VariedFigures]) -> str:
    """Return all tables."""
    return "\n\n".join(f"{TITLES[factor]}\n\n{factor_table(own)}" for factor, own in _by_factor(rows).items())


def as_page(rows: Sequence[VariedFigures], command: str, model: str) -> str:
    """Return the text of docs/RESULTS_VARIED.md. ``command``: the one that makes it. ``model``: its digest."""
    tables = {factor: factor_table(own) for factor, own in _by_factor(rows).items()}
    return page_text(command, model=model, names=list(dict.fromkeys(row.figures.method for row in rows)), tables=tables)


def page_text(command: str, *, model: str, names: Sequence[str], tables: Mapping[str, str]) -> str:
    """Return the text of docs/RESULTS_VARIED.md from its tables, by factor. ``names``: the methods."""
    drawn = f"Its checkpoint is {model}, with {_AT} where nothing else is said."
    parts = [
        "# Results when the circumstances vary", paragraph(_IS_FOR), made_by(command, drawn),
        "## How to read the figures", paragraph(_ONE_VARIES), points(_COLUMNS), paragraph(UNCERTAINTY.format(mean="")),
        "## The methods", method_points(names), paragraph(_MADE_AT),
        *(part for factor in tables for part in (f"## {TITLES[factor]}", paragraph(_MEANINGS[factor]), tables[factor])),
    ]  # fmt: skip
    return "\n\n".join(parts) + "\n"


_IS_FOR = (
    "This page is for people who erase several concepts at once, write long prompts, or change the number of steps or "
    "the CFG scale. After reading it you can say whether erasing works then as well as usual, and what else is lost."
)
_ONE_VARIES = (
    "Each table varies one circumstance. All else is as in [RESULTS.md](RESULTS.md), which says what the kinds of "
    "prompt are and how images are judged. The columns are:"
)
_COLUMNS = (
    "**Shown before**: of the images without erasure whose prompts ask for the concept, those that show it. A "
    "circumstance may itself make the model draw the concept less often.",
    "**Left**: of the images that show the concept without erasure, those that still show it. The fewer, the better.",
    "**Kept**: of the prompt's other objects that show without erasure, those that still show. The more, the better.",
    "**Unharmed**: the images in which every object that is not erased still shows, on a background in the same style. "
    "The more, the better.",
    "**Replaced**: of the images that the concept was erased from, those with an object, or one more copy of an "
    "object, that was not there without erasure.",
)
_AT = f"{USUAL.steps} steps and CFG scale {USUAL.cfg:g}"
_MADE_AT = f"All adapters and calibrations were made at {_AT}, for one concept each."
