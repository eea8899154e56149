"""The tab's second step: who judges the images, how thoroughly, and how they are sampled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from lib_gie.checks import quoted
from lib_gie.errors import OptionError
from lib_gie.training.judges import DEFAULT_JUDGE, available_judges
from lib_gie.training.search import GRID

from .fields import line, named, slider, step
from .suitable import family_now, samplers
from .usual import is_usual, usual_sampling

EFFORTS = {"Quick": (30, 1, len(GRID) - 1), "Usual": (100, 4, len(GRID) - 1), "Thorough": (500, 8, len(GRID) - 1)}
"""By name the prompts of each section, the images of each prompt, and the scales that are tried."""

_EFFORTS_NOTE = "Quick: {0[1]} image of each prompt, to see whether it works. Usual: {1[1]}. Thorough: {2[1]}."


@dataclass(frozen=True)
class HowFields:
    """The step's fields. ``effort``: a choice that sets the ``labels`` fields. ``line``: what is said of them.

    ``labels``, ``sampling``: in the order of a work order's.
    """

    effort: Any
    labels: list[Any]
    sampling: list[Any]
    line: Any


def sampling_now(steps: Any, cfg: Any, width: Any, height: Any) -> list[Any]:
    """Return steps, guidance, width and height for the loaded model, where nobody seems to have chosen others."""
    untouched = width == height and is_usual(width, steps, cfg)
    return usual_fields() if untouched else [gr.update()] * 4


def usual_fields() -> list[Any]:
    """Return steps, guidance, width and height that are usual for the loaded model: what the button fills in."""
    base = family_now()
    if base is None:
        return [gr.update()] * 4
    usual = usual_sampling(base)
    return [usual["steps"], usual["cfg"], usual["side"], usual["side"]]


def judge_field() -> Any:
    """Return the field of the judge, which ``build_how`` places."""
    note = "Who says whether an image shows the concept"
    choices = available_judges()
    return named(gr.Dropdown, "judge", label="Judge", choices=choices, value=DEFAULT_JUDGE, info=note, render=False)


def build_how(judge: Any) -> HowFields:
    """Build the step. ``judge``: see ``judge_field``."""
    with step("how", "2. How it is trained"):
        with gr.Row(elem_classes="gie-row"):
            judge.render()
            note = _EFFORTS_NOTE.format(*EFFORTS.values())
            effort = named(gr.Radio, "effort", label="Effort", choices=list(EFFORTS), value="Usual", info=note)
        with named(gr.Accordion, "advanced", "Advanced", open=False):
            labels, sampling = _label_fields(), _sampling_fields()
        said = line("how")
    effort.input(_labels_of, [effort], labels, show_progress=False, queue=False)
    return HowFields(effort, labels, sampling, said)


def _labels_of(effort: Any) -> list[int]:
    if not isinstance(effort, str) or effort not in EFFORTS:
        raise OptionError(f"the effort is {quoted(effort)}; it must be one of {', '.join(EFFORTS)}")
    return list(EFFORTS[effort])


def effort_of(values: Sequence[Any]) -> Any:
    """Return the effort that stands for these values of ``labels``; no choice where none does."""
    return gr.update(value=next((name for name, known in EFFORTS.items() if known == tuple(values)), None))


def _label_fields() -> list[Any]:
    count, seeds, grid = EFFORTS["Usual"]
    with gr.Row(elem_classes="gie-row"):
        return [
            slider("count", count, "Prompts per section, at most"),
            slider("seeds", seeds, "Images per prompt"),
            slider("grid", grid, "Scales to try", info="of " + ", ".join(f"{scale:g}" for scale in GRID[1:])),
        ]


def _sampling_fields() -> list[Any]:
    names, usual = samplers(), usual_sampling(family_now() or "sd1")
    usual_sampler = "DPM++ 2M" if "DPM++ 2M" in names else names[0]
    with gr.Row(elem_classes="gie-row"):
        made = [
            named(gr.Dropdown, "sampler", label="Sampling method", choices=names, value=usual_sampler),
            slider("steps", usual["steps"], "Sampling steps"),
            slider("cfg", usual["cfg"], "CFG Scale"),
            slider("width", usual["side"], "Width"),
            slider("height", usual["side"], "Height"),
            slider("batch", 8 if usual["side"] < 512 else 4, "Batch size"),
        ]
    # the page is often built before the model is loaded, and the model can be changed
    button = named(gr.Button, "usual", "Usual for the loaded model", size="sm")
    button.click(usual_fields, None, made[1:5], show_progress=False)
    return made
