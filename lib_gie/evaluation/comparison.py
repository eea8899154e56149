"""Many methods on the same prompts and seeds, and the page that shows them side by side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lib_gie.core.rules import RULES
from lib_gie.core.scales.calibrated import CALIBRATED
from lib_gie.demo.sampling_settings import CFG, STEPS
from lib_gie.training.calibration import MOST_EVALUATIONS

from .generate import Job
from .measures import MethodFigures, compare, concepts_table, errors_table, methods_table, outside_table, sum_of_errors
from .methods import IMPLIED, Shipped, method
from .outcomes import Comparer, Outcome, kept_outcomes

NEGPIP = "negpip 1"
SEGA = "sega 10 0.8"
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
    """Return the demo model's adapters in models/."""
    from lib_gie.demo.glyphs import UNWANTED

    single = {concept: folder / f"demo-{concept}.safetensors" for concept in UNWANTED}
    return Shipped(single, folder / "demo-joint.safetensors", folder / "demo-six.safetensors")


class Comparison:
    """Outcomes of methods on jobs, and the tables of them. ``model``: the checkpoint's digest."""

    def __init__(
        self, pipe: Any, jobs: Sequence[Job], names: Sequence[str], folder: Path, *, keep: Path | None, model: str
    ):
        files = shipped(folder)
        self.jobs, self.model = list(jobs), model
        self._plain = method(pipe, "none", files)
        self._methods = [method(pipe, name, files) for name in dict.fromkeys(names)]
        self._kept = kept_outcomes(keep, f"checkpoint {model}, {STEPS} steps, CFG {CFG:g}") if keep else None
        self.before: dict[Job, Outcome] = {}
        self.after: dict[str, dict[Job, Outcome]] = {}

    def run(self) -> None:
        """Make and look at all images that are not known yet."""
        comparer = Comparer(self._plain, self.jobs, self._kept)
        self.before = comparer.before
        self.after = {chosen.name: comparer.outcomes(chosen) for chosen in self._methods}

    @property
    def rows(self) -> list[MethodFigures]:
        """Return all rows, method by method."""
        return [row for name, after in self.after.items() for row in compare(name, self.before, after)]

    def fixed_scales(self) -> list[dict]:
        """Return the fixed scales that were tried, each with its sum of errors and rows."""
        return [
            {
                "scale": float(name.removeprefix("fixed scale ")),
                "sum_of_errors": round(sum_of_errors(rows), 4),
                "rows": [row.as_json() for row in rows],
            }
            for name, after in self.after.items()
            for rows in [compare(name, self.before, after)]
        ]

    def _concepts(self) -> list[str]:
        own = [name for name in self.after if name.startswith(("fixed", "adapter", "joint", "unseen", CALIBRATED))]
        return [
            concepts_table(name, self.before, self.after[name]) for name in own if "," not in name or IMPLIED in name
        ]

    def as_text(self) -> str:
        """Return all tables."""
        parts = [methods_table(self.rows), errors_table(self.rows), *self._concepts()]
        return "\n\n".join([*parts, self._outside()] if _near(list(self.after)) else parts)

    def _outside(self) -> str:
        return outside_table(self.rows, _near(list(self.after)))

    def as_page(self, split: str, seeds: int) -> str:
        """Return the text of docs/RESULTS.md."""
        return _PAGE.format(
            split=split, seeds=seeds, model=self.model, steps=STEPS, cfg=CFG, images=len(self.jobs),
            rows=methods_table(self.rows), outside=self._outside(), errors=errors_table(self.rows),
            concepts="\n\n".join(self._concepts()),
            calibrated=CALIBRATED, implied=IMPLIED, most=MOST_EVALUATIONS,
            negpip=NEGPIP, sega=SEGA, tried=", ".join(tried_settings()),
        )  # fmt: skip


_PAGE = """\
# Results

Made by `python -m lib_gie evaluate --set {split} --seeds {seeds} --report docs/RESULTS.md` with the demo checkpoint
{model}, {steps} steps, CFG scale {cfg:g}: {images} images per method. Do not edit; run the command again.

- **Erased object left**: of the images that show the concept without erasure, those that still show it.
- **Other objects kept**: of the prompt's other objects that show without erasure, those that still show.
- **Images unharmed**: images in which every object beside the concept that shows without erasure still shows.
- **Replaced**: of the images that the concept was erased from, those with an object, or one more copy of an object,
  that was not there without erasure.
- **SSIM** to the image without erasure (Wang et al., 2004; 1: the same), on prompts that have nothing to do with it.

"padding 1": beyond the paper, EOS and padding of the concept's text are inhibited as strongly as its own tokens.
The detector of the demo model says what shows. 95 % intervals in brackets: Wilson's for shares, the normal one for
SSIM; both take images as independent. "unseen adapter" covers only the concepts that it was not trained on.
"{calibrated}" needs no labelled image and no prompt of the splits: each concept was calibrated as if it were the first,
with at most {most:,} UNet evaluations. For "{calibrated}, {implied}" each was given its implied prompts of the train
split.

{rows}

What is left of explicit and implicit prompts, what is lost of their other objects and of unrelated ones', and unrelated
images harmed, added up (the smaller, the better):

{errors}

{concepts}

"Keep composition", the last rows: the prompt's attention and small self-attention maps of the image without erasure
serve the erased one, too. Of the images that the concept was erased from, SSIM to the image without erasure, without
the boxes of the erased objects:

{outside}

The others' settings were chosen on the validation prompts, one seed: {negpip}, {sega}, of {tried}. Safe Latent
Diffusion has its authors' four settings, its warm-up scaled to {steps} steps.
"""
