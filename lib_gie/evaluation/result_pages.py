"""The pages that show a comparison: docs/RESULTS.md for the main kinds of prompt, docs/RESULTS_KINDS.md for all."""

from __future__ import annotations

from collections.abc import Sequence

from lib_gie.core.scales.calibrated import CALIBRATED
from lib_gie.demo.sampling_settings import CFG, STEPS
from lib_gie.demo.world.splits import KINDS
from lib_gie.training.calibration import MOST_EVALUATIONS

from .comparison import NEGPIP, SEGA, Comparison, tried_settings
from .figures import table
from .generate import Job
from .measures import errors_table, kinds_table, methods_table
from .methods import IMPLIED

_MEANINGS = {
    "named": "has the name of the thing to erase",
    "implied": "is about a scene that the thing belongs to",
    "synonym": "calls the thing by another name",
    "described": "describes the thing without a name",
    "neighbour": "has a harmless thing that is near to the concept, alone or beside it",
    "styled": "names the thing in a picture of some style",
    "long": "names the thing among many words that mean nothing",
    "several": "names two or three things, and all of them are erased",
    "unrelated": "has nothing to do with the concept",
    "style named": "has the name of the style to erase",
    "style implied": "implies the style by a painter's name or a period",
    "style unrelated": "is in another style than the one to erase, or in none",
}
"""What a prompt of each kind is, after "the prompt"."""


def main_page(comparison: Comparison, command: str) -> str:
    """Return the text of docs/RESULTS.md. ``command``: the one that makes it."""
    return _MAIN.format(
        command=command, model=comparison.model, steps=STEPS, cfg=CFG, images=len(comparison.jobs),
        rows=methods_table(comparison.rows), outside=comparison.outside(), errors=errors_table(comparison.rows),
        concepts="\n\n".join(comparison.concepts()),
        calibrated=CALIBRATED, implied=IMPLIED, most=MOST_EVALUATIONS,
        negpip=NEGPIP, sega=SEGA, tried=", ".join(tried_settings()),
    )  # fmt: skip


def kinds_page(comparison: Comparison, command: str) -> str:
    """Return the text of docs/RESULTS_KINDS.md. ``command``: the one that makes it."""
    rows = comparison.by_method()
    return _KINDS.format(
        command=command, model=comparison.model, steps=STEPS, cfg=CFG, calibrated=CALIBRATED,
        kinds=_examples(comparison.jobs),
        tables="\n\n".join(f"## {name}\n\n{kinds_table(own)}" for name, own in rows.items()),
    )  # fmt: skip


def _examples(jobs: Sequence[Job]) -> str:
    """Return a table of the jobs' kinds of prompt, each with its first prompt."""
    first = {job.prompt.kind: job for job in reversed(jobs)}
    lines = [
        (kind, _MEANINGS[kind], f"`{first[kind].prompt.text}`", first[kind].concept) for kind in KINDS if kind in first
    ]
    return table(("prompts", "the prompt ...", "an example", "erased from it"), lines)


_MAIN = """\
# Results

Made with the demo checkpoint {model}, {steps} steps, CFG scale {cfg:g}: {images} images per method. Do not edit; run
the command that makes this page:

    {command}

- **Erased object left**: of the images that show the concept without erasure, those that still show it.
- **Other objects kept**: of the prompt's other objects that show without erasure, those that still show.
- **Images unharmed**: images in which every object beside the concept that shows without erasure still shows, on a
  background in the same style.
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

What is left of named and implied prompts, what is lost of their other objects and of unrelated ones', and unrelated
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

_KINDS = """\
# Results by kind of prompt

Made with the demo checkpoint {model}, {steps} steps, CFG scale {cfg:g}. Do not edit; run the command that makes this
page:

    {command}

A concept is a thing, such as a knife, or a style, such as a pencil sketch. A prompt can ask for it in many ways: by its
name, by another word, or by a scene that it belongs to. This page tells how well each method erases for each kind of
prompt, and what else it harms.

{kinds}

Each prompt's image is made twice from the same seed, without and with erasure. The demo model's detector says which
objects, and which styles, both show.

- **Left**: of the prompt's concepts that show without erasure, those that still show.
- **Kept**: of the prompt's other objects that show without erasure, those that still show. In the row "neighbour" it is
  the neighbour alone.
- **Unharmed**: images in which every object that is not erased still shows, on a background in the same style. Where a
  style that showed was erased, the background may change.
- **Style kept**: of the images in a style that the prompt asks for and that is not erased, those that are still in it.
- **Replaced**: of the images that things were erased from, those with an object, or one more copy of an object, that
  was not there without erasure.
- **SSIM** to the image without erasure (Wang et al., 2004; 1: the same), on prompts without the concept.

95 % intervals in brackets: Wilson's for shares, the normal one for SSIM; both take images as independent. A method has
no row where it has nothing to erase with: "adapter" has one for each thing and for some styles, "joint adapter" one for
all things, and "unseen adapter" covers only concepts that it was not trained on. "{calibrated}" has no training.

{tables}
"""
