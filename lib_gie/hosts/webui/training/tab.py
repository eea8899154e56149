"""The tab "Growth Inhibitors", which trains an adapter on the loaded checkpoint in three steps: what, how, go."""

from __future__ import annotations

from typing import Any

import gradio as gr

from lib_gie.hosts.webui.request.parsing import TITLE

from .fields import PREFIX, named
from .go import build_go, measured, train
from .how import build_how, judge_field, sampling_now
from .lines import step_lines
from .what import build_what

_INTRO = """\
<p>Here you train an adapter for a concept on the checkpoint that is loaded. An adapter finds by itself how strongly
each image must be changed. Others can generate meanwhile: the training takes its turns in the WebUI's queue.</p>"""


def build_tab() -> list[tuple[Any, str, str]]:
    """Build the tab: the WebUI's on_ui_tabs callback."""
    with gr.Blocks(analytics_enabled=False) as blocks:
        gr.HTML(_INTRO)
        judge = judge_field()
        what, how, go = build_what(judge), build_how(judge), build_go()
        order = [what.concept, go.name, what.prompts, judge, *how.labels, *how.sampling, go.replace]  # as in WorkOrder
        lines = [what.line, how.line, go.line]
        for field in order:
            field.change(step_lines, order, lines, show_progress=False, queue=False)
        steps_to_height = how.sampling[1:5]
        opened = named(gr.Button, "opened", "", elem_classes=["gie-hidden"])
        opened.click(sampling_now, steps_to_height, steps_to_height, show_progress=False, queue=False).then(
            step_lines, order, lines, show_progress=False, queue=False
        )
        go.start.click(train, order, list(go.shown), show_progress=False, queue=False)
        go.measure.click(measured, order, [go.line])
    return [(blocks, TITLE, PREFIX)]
