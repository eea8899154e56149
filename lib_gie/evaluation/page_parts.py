"""What the pages of figures have in common: wrapped paragraphs, how the page was made, and what the methods are."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from lib_gie.core.scales.calibrated import CALIBRATED
from lib_gie.training.calibration import MOST_EVALUATIONS

from .methods import IMPLIED

WIDTH = 120

UNCERTAINTY = (
    "Brackets hold the 95 % interval of a figure: Wilson's for shares{mean}. It takes images as independent. The "
    'number after "of" says how many images or objects the share is of.'
)
_MEANINGS = {
    "none": "Nothing is erased.",
    "negative prompt": "The concept is the negative prompt.",
    "word removed": "The concept's words are taken out of the prompt.",
    "negpip": "NegPiP: the concept's words join the prompt with negative values. The number is their strength.",
    "sega": "Semantic Guidance away from the concept. The numbers are its scale and its threshold.",
    "sld": (
        "Safe Latent Diffusion, with the concept as what is unsafe, in one of its authors' four settings. Its warm-up "
        "is scaled to the steps."
    ),
    "fixed scale": "Growth inhibitors with the same scale for every image.",
    "value projection": "The other erasing rule of this project, at its usual scale.",
    "adapter": "Growth inhibitors. An adapter that was trained for the concept finds the scale of each image.",
    "joint adapter": "Growth inhibitors with one adapter that was trained for all things.",
    "unseen adapter": (
        "Growth inhibitors with an adapter that was trained for other things. Only concepts that it was not trained "
        "for are erased with it."
    ),
    CALIBRATED: (
        "Growth inhibitors. A calibration finds the scale of each image. It needs no labelled image and none of the "
        f"prompts here: each concept was calibrated as if it were the first, with at most {MOST_EVALUATIONS:,} UNet "
        "evaluations."
    ),
}
"""By the beginning of a method's name: what the method is."""
_OPTIONS = {
    IMPLIED: "the calibration was given the concept's implied prompts of the train split",
    "separate": "the concept's attention comes from a UNet pass of its own, as in the paper",
    "end": "erasing ends at that share of the steps",
    "padding": "EOS and padding of the concept's text are inhibited at that share of the scale (not in the paper)",
    "composition": "the composition of the image without erasure is kept",
}
"""By the beginning of what follows a comma in a method's name: what it means."""


def paragraph(text: str) -> str:
    """Return a text in lines of at most WIDTH characters."""
    return textwrap.fill(text, WIDTH, break_long_words=False, break_on_hyphens=False)


def points(entries: Sequence[str]) -> str:
    """Return texts as a list of Markdown."""
    wrapped = (
        textwrap.fill(
            entry, WIDTH, initial_indent="- ", subsequent_indent="  ", break_long_words=False, break_on_hyphens=False
        )
        for entry in entries
    )
    return "\n".join(wrapped)


def made_by(command: str, sampled: str) -> str:
    """Return what a page says of its making. ``sampled``: the checkpoint and the settings of the images."""
    return "\n\n".join(
        (
            paragraph(
                "All images are those of the demo model, which draws simple things ([what it "
                f"draws](../models/demo/README.md)). {sampled} A real checkpoint may have other figures. Do not edit "
                "this page; run the command that makes it:"
            ),
            f"    {command}",
        )
    )


def method_points(names: Sequence[str]) -> str:
    """Return a list that says what these methods are, and what is meant by words after a comma in their names."""
    heads = {name.partition(",")[0] for name in names}
    options = {word.strip() for name in names for word in name.split(",")[1:]}
    known = [f"**{head}**: {text}" for head, text in _MEANINGS.items() if any(_is(name, head) for name in heads)]
    added = [f"With **{word}** {text}." for word, text in _OPTIONS.items() if any(_is(name, word) for name in options)]
    return points(known + added)


def _is(name: str, beginning: str) -> bool:
    return name == beginning or name.startswith(f"{beginning} ")
