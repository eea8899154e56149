"""The tab "Growth Inhibitors", which trains an adapter on the loaded checkpoint in three steps: what, how, go."""

from __future__ import annotations

from typing import Any

import gradio as gr

from lib_gie.hosts.webui.request.parsing import TITLE

from .fields import PREFIX, named
from .go import build_go, measured, train
from .how import build_how, effort_of, judge_field, sampling_now
from .lines import step_lines
from .what import build_what

_INTRO = """\
<p>Here you train an adapter for a concept on the checkpoint that is loaded. An adapter finds by itself how strongly
each image must be changed. Others can generate meanwhile: the training takes its turns in the WebUI's queue.</p>"""

_CHANGED = "() => { window.growthInhibitorsTraining?.changed(); }"
_CHECKED = "() => { window.growthInhibitorsTraining?.checked(); }"
"""javascript/growth_inhibitors.js presses one button whatever field has changed, and again where one has changed while
it was answered. With a handler for each field the slowest would have the last word, with what the fields were before.
And gradio drops what happens while a handler is at work."""

_LABELS = slice(4, 7)  # their place in an order


def _check(*values: Any) -> list[Any]:
    """Return what the three steps say of the fields, and the effort that they amount to."""
    return [*step_lines(*values), effort_of(values[_LABELS])]


def build_tab() -> list[tuple[Any, str, str]]:
    """Build the tab: the WebUI's on_ui_tabs callback."""
    with gr.Blocks(analytics_enabled=False) as blocks:
        gr.HTML(_INTRO)
        judge = judge_field()
        what, how, go = build_what(judge), build_how(judge), build_go()
        order = [what.concept, go.name, what.prompts, judge, *how.labels, *how.sampling, go.replace]  # as in WorkOrder
        check = named(gr.Button, "check", "", elem_classes=["gie-hidden"])
        answer = check.click(
            _check, order, [what.line, how.line, go.line, how.effort], show_progress=False, queue=False
        )
        answer.then(None, None, None, _js=_CHECKED)
        for field in order:
            field.change(None, None, None, _js=_CHANGED)
        steps_to_height = how.sampling[1:5]
        opened = named(gr.Button, "opened", "", elem_classes=["gie-hidden"])
        opened.click(sampling_now, steps_to_height, steps_to_height, show_progress=False, queue=False).then(
            None, None, None, _js=_CHANGED
        )
        go.start.click(train, order, list(go.shown), show_progress=False, queue=False)
        go.measure.click(measured, order, [go.line])
    return [(blocks, TITLE, PREFIX)]
