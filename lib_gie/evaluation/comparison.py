"""Many methods on the same prompts and seeds, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lib_gie.core.rules import RULES
from lib_gie.core.scales.calibrated import CALIBRATED
from lib_gie.demo.world.concepts import STYLE_OF
from lib_gie.demo.world.things import UNWANTED

from .generate import USUAL, Job, Sampling
from .measures import (
    MAIN,
    MethodFigures,
    compare,
    concepts_table,
    errors_table,
    kinds_table,
    methods_table,
    outside_table,
    sum_of_errors,
)
from .methods import IMPLIED, Shipped, method
from .outcomes import Comparer, Outcome, kept_outcomes

NEGPIP = "negpip 1"
SEGA = "sega 5 0.8"
"""The other methods' settings: those of ``tried_settings`` with the least sum of errors on validation, 1 seed."""


def tried_settings() -> list[str]:
    """Return the methods that NEGPIP and SEGA were chosen from by ``evaluate --set validation --seeds 1``."""
    return [
        *(f"negpip {strength:g}" for strength in (0.5, 1, 2)),
        *(f"sega {scale:g} {threshold:g}" for scale in (3, 5, 10) for threshold in (0.8, 0.95)),
    ]


def all_methods(scale: float) -> list[str]:
    """Return the methods of the comparison. ``scale``: the best fixed one."""
    fixed, (_, *other_rules) = f"fixed scale {scale:g}", RULES
    return [
        "none", "negative prompt", "word removed", NEGPIP, "sld weak", "sld medium", "sld strong", "sld max", SEGA,
        fixed, f"{fixed}, separate", f"{fixed}, end 0.8", *other_rules,
        "adapter", "adapter, separate", "adapter, end 0.8", "adapter, padding 1", "joint adapter", "unseen adapter",
        CALIBRATED, f"{CALIBRATED}, {IMPLIED}",
        f"{fixed}, composition", "adapter, composition",
    ]  # fmt: skip


def _near(names: Sequence[str]) -> list[str]:
    """Return the methods that keep the composition, each after the same one without that."""
    keeping = [name for name in names if ", composition" in name]
    return [name for kept in keeping for name in (kept.partition(",")[0], kept) if name in names]


def shipped(folder: Path) -> Shipped:
    """Return the demo model's adapters in models/. Not every style has one."""
    single = {concept: folder / f"demo-{concept}.safetensors" for concept in UNWANTED}
    single |= {phrase: folder / f"demo-style-{style}.safetensors" for phrase, style in STYLE_OF.items()}
    return Shipped(single, folder / "demo-joint.safetensors", folder / "demo-six.safetensors")


class Comparison:
    """Outcomes of methods on jobs, and the tables of them.

    ``jobs``: those that no method covers are left out. ``model``: the checkpoint's digest.
    """

    def __init__(
        self,
        pipe: Any,
        jobs: Sequence[Job],
        names: Sequence[str],
        folder: Path,
        *,
        keep: Path | None,
        model: str,
        sampling: Sampling = USUAL,
    ):
        files = shipped(folder)
        self._plain = method(pipe, "none", files, sampling)
        self._methods = [method(pipe, name, files, sampling) for name in dict.fromkeys(names)]
        self.jobs = [job for job in jobs if any(chosen.covers(job) for chosen in self._methods)]
        self.model = model
        self._kept = kept_outcomes(keep, f"checkpoint {model}, {sampling}") if keep else None
        self.before: dict[Job, Outcome] = {}
        self.after: dict[str, dict[Job, Outcome]] = {}

    def run(self) -> None:
        """Make and look at all images that are not known yet."""
        comparer = Comparer(self._plain, self.jobs, self._kept)
        self.before = comparer.before
        self.after = {chosen.name: comparer.outcomes(chosen) for chosen in self._methods}

    def by_method(self) -> dict[str, list[MethodFigures]]:
        """Return the rows of every method."""
        return {name: compare(name, self.before, after) for name, after in self.after.items()}

    @property
    def rows(self) -> list[MethodFigures]:
        """Return all rows, method by method."""
        return [row for rows in self.by_method().values() for row in rows]

    @property
    def is_of_main_kinds(self) -> bool:
        """Tell whether all prompts are of the kinds that the main page shows."""
        return {job.prompt.kind for job in self.jobs} <= {*MAIN}

    def fixed_scales(self) -> list[dict]:
        """Return the fixed scales that were tried, each with its sum of errors and rows."""
        return [
            {
                "scale": float(name.removeprefix("fixed scale ")),
                "sum_of_errors": round(sum_of_errors(rows), 4),
                "rows": [row.as_json() for row in rows],
            }
            for name, rows in self.by_method().items()
        ]

    def concepts(self) -> list[str]:
        """Return the tables of this project's methods, concept by concept."""
        own = [name for name in self.after if name.startswith(("fixed", "adapter", "joint", "unseen", CALIBRATED))]
        return [
            concepts_table(name, self.before, self.after[name]) for name in own if "," not in name or IMPLIED in name
        ]

    def outside(self) -> str:
        """Return the table of the methods that keep the composition, empty where there are none."""
        near = _near(list(self.after))
        return outside_table(self.rows, near) if near else ""

    def as_text(self) -> str:
        """Return all tables."""
        if self.is_of_main_kinds:
            parts = [methods_table(self.rows), errors_table(self.rows), *self.concepts(), self.outside()]
        else:
            tables = (f"{name}\n\n{kinds_table(rows)}" for name, rows in self.by_method().items())
            parts = [*tables, errors_table(self.rows)]
        return "\n\n".join(filter(None, parts))
