"""The tab "Growth Inhibitors", which trains an adapter on the loaded checkpoint in three steps: what, how, go."""

from __future__ import annotations

import dataclasses
from typing import Any

import gradio as gr

from lib_gie.hosts.webui.page.current import keep_current, told_of_change
from lib_gie.hosts.webui.request.parsing import TITLE
from lib_gie.training.prompts import starter_list

from .fields import PREFIX, named
from .go import build_go, measured, train
from .how import build_how, effort_of, judge_field, sampling_now
from .lines import step_lines
from .trainer import trainer
from .what import FIRST, build_what

_INTRO = """\
<p>Here you train an adapter for a concept on the checkpoint that is loaded. An adapter finds by itself how strongly
each image must be changed. Others can generate meanwhile: the training takes its turns in the WebUI's queue.</p>"""

_PART = "train"
_PROMPTS = 2  # its place in an order
_LABELS, _SAMPLING = slice(4, 7), slice(8, 12)  # their places in an order; sampling: steps, guidance, width, height


def _check(*values: Any) -> list[Any]:
    """Return what the three steps say of the fields, and the effort that they amount to."""
    return [*step_lines(*values), effort_of(values[_LABELS])]


def _running(*values: Any) -> list[Any]:
    """Return the fields' values of the training that runs, where nothing is typed yet.

    The page's script asks for them once, where it finds a training that another page began: a handler that fills a
    field in closes its list of choices, so it is not to come whenever the tab is opened.
    """
    running = trainer.order
    if running is None or str(values[0]).strip() or values[_PROMPTS] != starter_list(FIRST):
        return [gr.update()] * len(values)
    return list(dataclasses.astuple(dataclasses.replace(running, replace=False)))


def build_tab() -> list[tuple[Any, str, str]]:
    """Build the tab: the WebUI's on_ui_tabs callback."""
    with gr.Blocks(analytics_enabled=False) as blocks:
        gr.HTML(_INTRO)
        judge = judge_field()
        what, how, go = build_what(judge), build_how(judge), build_go()
        order = [what.concept, go.name, what.prompts, judge, *how.labels, *how.sampling, go.replace]  # as in WorkOrder
        keep_current(_PART, order, _check, order, [what.line, how.line, go.line, how.effort])
        opened = named(gr.Button, "opened", "", elem_classes=["gie-hidden"])
        opened.click(sampling_now, order[_SAMPLING], order[_SAMPLING], show_progress=False, queue=False).then(
            None, None, None, _js=told_of_change(_PART)
        )
        fill = named(gr.Button, "fill", "", elem_classes=["gie-hidden"])
        fill.click(_running, order, order, show_progress=False, queue=False).then(
            None, None, None, _js=told_of_change(_PART)
        )
        go.start.click(train, order, list(go.shown), show_progress=False, queue=False)
        go.measure.click(measured, order, [go.line])
    return [(blocks, TITLE, PREFIX)]
