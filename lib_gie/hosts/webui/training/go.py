"""The tab's third step: name, estimate, start and stop, progress and report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from lib_gie.errors import GieError
from lib_gie.hosts.webui.page.accordion import adapter_dropdowns
from lib_gie.hosts.webui.request.installed import adapter_names
from lib_gie.training.judges import available_judges

from .fields import line, named, step
from .lines import GO, error_html, step_lines
from .status import status_html
from .suitable import samplers
from .trainer import trainer
from .work_order import WorkOrder, read_work_order

_PICTURES = 2  # their place in what ``show`` returns
_EMPTIED = "emptied"


@dataclass(frozen=True)
class GoFields:
    """The step's fields that are part of an order, the place of its ``line``, and the buttons that need the order."""

    name: Any
    replace: Any
    line: Any
    start: Any
    measure: Any
    shown: Sequence[Any]


def _order(values: Sequence[Any]) -> WorkOrder:
    return read_work_order(values, samplers(), available_judges())


def _says_nothing(values: Sequence[Any]) -> bool:
    """Tell whether there is no concept yet."""
    return bool(values) and isinstance(values[0], str) and not values[0].strip()


def measured(*values: Any) -> str:
    """Return the step's line once a batch was made and judged, which shows how long an evaluation takes."""
    from .run import measure_pace  # loads what fits and draws: the WebUI's start is not to wait for it

    try:
        order = _order(values)
        if trainer.running:
            raise GieError("a training is under way; look at its progress, which says how long it takes")
        measure_pace(order, trainer.paces)
    except GieError as error:
        return error_html(error)
    return step_lines(*values)[GO]


def _status() -> str:
    return status_html(trainer.progress, trainer.stopping)


def _view() -> list[Any]:
    """Return the values of status, pictures, the button of a person who judges, report, and the adapter fields."""
    progress = trainer.progress
    finished = progress.state == "done"
    choices = [gr.update(choices=adapter_names()) if finished else gr.update() for _ in adapter_dropdowns()]
    return [
        _status(),
        gr.update(value=list(progress.pictures), visible=bool(progress.pictures)),
        gr.update(visible=progress.state == "asking"),
        gr.update(value=list(progress.report), visible=finished),
        *choices,
    ]


def _now() -> list[Any]:
    """Return what the view depends on: it is sent again only when this has changed."""
    progress = trainer.progress
    stage = progress.stage
    done = [stage.text, stage.done, stage.total] if stage is not None else []
    return [progress.state, progress.text, *done, progress.images, len(progress.report), trainer.stopping]


def show() -> list[Any]:
    """Return what the view depends on, and the view: the button that shows the progress."""
    return [_now(), *_view()]


def refresh(shown: list[Any]) -> list[Any]:
    """Return what ``show`` does, if it has changed: the page asks every second while a training runs.

    ``shown``: what the page's view depended on. Before a question its pictures are emptied once: the picture that was
    the last answer stays chosen otherwise, and gradio tells of no click on it. Nothing is streamed: gradio never ends a
    stream whose page was closed, and Reload UI would wait for it for ever.
    """
    now = show()
    if now[0] == shown:
        return [shown, *[gr.update()] * (len(now) - 1)]
    emptied = [*now[0], _EMPTIED]
    if trainer.progress.state == "asking" and shown != emptied:
        now[0], now[_PICTURES] = emptied, gr.update(value=[])
    return now


def train(*values: Any) -> list[Any]:
    """Start the training that the fields describe, and return the view: the Train button."""
    try:
        if _says_nothing(values):
            raise GieError("there is no concept; name what is to be erased, for example: knife")
        trainer.start(_order(values))
    except GieError as error:
        # the page's next look at the progress, which is as it was, must not take the message away
        return [_now(), error_html(error), *[gr.update() for _ in _view()[1:]]]
    return show()


def _stop() -> str:
    if not trainer.running:
        return "no training is under way"
    trainer.stop()
    return _status()


def _click(event: gr.SelectData) -> None:
    """Take a click on a picture for a person's answer. Raises OptionError for what is no picture."""
    trainer.answer(event.index)


def build_go() -> GoFields:
    """Build the step."""
    with step("go", "3. Go"):
        with gr.Row(elem_classes="gie-row"):
            name = named(gr.Textbox, "name", label="Name of the adapter", placeholder="as the concept")
            label = "Replace an adapter of this name and concept"
            replace = named(gr.Checkbox, "replace", label=label, value=False)
        said = line("estimate")
        with gr.Row(elem_classes="gie-buttons"):
            start = named(gr.Button, "start", "Train", variant="primary")
            stop = named(gr.Button, "stop", "Interrupt")
            look = named(gr.Button, "watch", "Show progress")
            measure = named(gr.Button, "measure", "Measure the pace")
        shown = [gr.State([]), *_results(), *adapter_dropdowns()]
    look.click(show, None, shown, show_progress=False, queue=False)
    again = named(gr.Button, "refresh", "", elem_classes=["gie-hidden"])
    again.click(refresh, [shown[0]], shown, show_progress=False, queue=False)
    stop.click(_stop, None, [shown[1]], show_progress=False, queue=False)
    return GoFields(name, replace, said, start, measure, shown)


def _results() -> list[Any]:
    """Build status, pictures, the button of a person who judges, and the report."""
    status = named(gr.HTML, "status", "")
    pictures = named(
        gr.Gallery,
        "pictures",
        label="Images, with their scale",
        columns=8,
        height=180,
        allow_preview=False,
        visible=False,
    )
    none_free = named(gr.Button, "all_show", "All of them show it", visible=False)
    report = named(gr.Gallery, "report", label="Report", columns=2, visible=False, object_fit="contain")
    pictures.select(_click, None, None, show_progress=False, queue=False)
    none_free.click(lambda: trainer.answer(None), None, None, show_progress=False, queue=False)
    return [status, pictures, none_free, report]
