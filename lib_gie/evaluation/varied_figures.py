"""The figures of methods in varied settings, and the page that shows them, docs/RESULTS_VARIED.md."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lib_gie.core.scales.calibrated import CALIBRATED

from .comparison import Comparison
from .figures import Share, as_json, table
from .generate import USUAL
from .measures import MethodFigures, compare
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

_TITLES = {
    "concepts": "Number of concepts erased at once",
    "length": "Length of the prompt",
    "position": "Place of the concept in the prompt",
    "steps": "Sampling steps",
    "cfg": "CFG scale",
}
_MEANINGS = {
    "concepts": (
        "The prompt's concept is erased together with others of the eight things: those that follow it in the list, in "
        "a circle. What is left is that of the prompt's own concept. None of the erased things counts as kept or "
        "unharmed."
    ),
    "length": (
        'Prompts of the kind "named", short as they are, and with words behind them that mean nothing ("detailed, soft '
        'light"), up to 77 tokens, which is what the text encoder reads at once, and up to 150, which it reads in two '
        "parts."
    ),
    "position": "The same prompts among such words, 77 tokens in all: first, in the middle, or last.",
    "steps": "The usual number is 20.",
    "cfg": "How strongly the image is to follow the prompt. The usual scale is 4.",
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
    return "\n\n".join(f"{_TITLES[factor]}\n\n{factor_table(own)}" for factor, own in _by_factor(rows).items())


def as_page(rows: Sequence[VariedFigures], command: str, model: str) -> str:
    """Return the text of docs/RESULTS_VARIED.md. ``command``: the one that makes it. ``model``: its digest."""
    parts = [
        f"## {_TITLES[factor]}\n\n{textwrap.fill(_MEANINGS[factor], 120)}\n\n{factor_table(own)}"
        for factor, own in _by_factor(rows).items()
    ]
    return _PAGE.format(command=command, model=model, usual=USUAL, calibrated=CALIBRATED, tables="\n\n".join(parts))


_PAGE = """\
# Results when the circumstances vary

Made with the demo checkpoint {model}, {usual} where nothing else is said. Do not edit; run the command that makes this
page:

    {command}

One circumstance is varied in each table; all else is as in [RESULTS.md](RESULTS.md), which says what the kinds of
prompt are and how images are judged.

- **Shown before**: of the images without erasure whose prompts ask for the concept, those that show it. A circumstance
  may itself make the model draw the concept less often.
- **Left**: of the images that show the concept without erasure, those that still show it.
- **Kept**: of the prompt's other objects that show without erasure, those that still show.
- **Unharmed**: images in which every object that is not erased still shows, on a background in the same style.
- **Replaced**: of the images that the concept was erased from, those with an object, or one more copy of an object,
  that was not there without erasure.

95 % intervals in brackets: Wilson's, which takes images as independent. Adapters and calibrations ("{calibrated}") were
made at {usual}, for one concept each.

{tables}
"""
