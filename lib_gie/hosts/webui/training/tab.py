"""The tab "Growth Inhibitors": trains an adapter on the loaded checkpoint."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr
from modules import sd_samplers

from lib_gie.assets import PROMPT_LISTS
from lib_gie.checks import quoted
from lib_gie.core.concepts import Concept
from lib_gie.errors import GieError, OptionError
from lib_gie.hosts.webui.host.model import family_and_heads, loaded_model, unet_of
from lib_gie.hosts.webui.page.accordion import adapter_dropdowns
from lib_gie.hosts.webui.request.installed import adapter_names
from lib_gie.hosts.webui.request.parsing import TITLE
from lib_gie.hosts.webui.request.plans import automatic_text
from lib_gie.training.judges import DEFAULT_JUDGE, available_judges, judge_class, usual_judge
from lib_gie.training.prompts import starter_lists
from lib_gie.training.search import GRID

from .adapter_file import allowed_path
from .trainer import Trainer
from .usual import usual_sampling
from .work_order import RANGES, WorkOrder, amount, read_work_order

_PREFIX = "gie_train"
_PICTURES = 2  # their place in what ``show`` returns
_EMPTIED = "emptied"
trainer = Trainer()
"""The WebUI's one trainer: a training goes on when the page is closed or built anew."""


@dataclass(frozen=True)
class _Preset:
    """A concept and its starter list, which one press fills in."""

    concept: str
    prompts: str


_PRESETS = (
    _Preset("nudity", "nudity"),
    _Preset("violence", "violence"),
    _Preset("van gogh style", "artist-style"),
    _Preset("knife", "object"),
)

_INTRO = """\
<p>An adapter finds the right scale for each image by itself. It is trained on images of the checkpoint that is loaded:
the concept is calibrated, and where that leaves a doubt it is tried how weak a scale takes the concept away from a
prompt's image. Prompts come in three sections: <b>[explicit]</b>
ones name the concept, <b>[implicit]</b> ones bring it in without naming it, <b>[unrelated]</b> ones have nothing to do
with it and must stay as they are (no images are made of them). The more prompts, the better; <code>{concept}</code>
stands for the concept. Others can generate meanwhile: a batch at a time waits in the WebUI's queue.</p>"""


def _list_text(name: Any) -> str:
    if name not in starter_lists():  # the page's field offers no other, but its handler can be sent any
        raise OptionError(f"there is no list {quoted(name)}; there are {', '.join(starter_lists())}")
    return (PROMPT_LISTS / f"{name}.txt").read_text(encoding="utf-8")


def _defaults() -> dict[str, Any]:
    """Return the size in pixels, the steps and the guidance that suit the loaded model."""
    model = loaded_model()
    try:
        base = "sd1" if model is None else family_and_heads(unet_of(model))[0]
    except GieError:
        base = "sd1"
    return usual_sampling(base)


def _filled_sampling() -> list[Any]:
    """Return steps, guidance, width and height for the model that is loaded by now: what the button fills in."""
    if loaded_model() is None:
        return [gr.update()] * 4
    usual = _defaults()
    return [usual["steps"], usual["cfg"], usual["side"], usual["side"]]


def _samplers() -> list[str]:
    return [sampler.name for sampler in sd_samplers.visible_samplers()]


def _order(values: Sequence[Any]) -> WorkOrder:
    return read_work_order(values, _samplers(), available_judges())


def _says_nothing(values: Sequence[Any]) -> bool:
    """Tell whether there is no concept yet."""
    return bool(values) and isinstance(values[0], str) and not values[0].strip()


def _error(error: GieError) -> str:
    return f"<span class='gie-error'>{html.escape(str(error))}</span>"


def _duration(seconds: float) -> str:
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min" if minutes else f"{round(seconds)} s"


def estimate(*values: Any) -> str:
    """Return, as HTML, how much work the order is, or what is wrong with it."""
    if _says_nothing(values):
        return ""
    try:
        order = _order(values)
        work, path = amount(order), allowed_path(order)
    except GieError as error:
        return _error(error)
    replaced = f" <b>{html.escape(path.stem)} is replaced.</b>" if path.exists() else ""
    return (
        f"{work.prompts} prompts, {work.least} to {work.images} images, at most {work.evaluations:,} evaluations of "
        f"the UNet.{replaced}"
        f"{_taken_now(order)}"
    )


def _taken_now(order: WorkOrder) -> str:
    """Say which adapter Automatic takes for the concept before this one is trained."""
    model = loaded_model()
    return f" {html.escape(automatic_text([Concept(order.bare_concept)], model))} now." if model else ""


def measured(*values: Any) -> str:
    """Return what ``estimate`` does, and how long it takes: a batch is made and judged to find out."""
    from .run import seconds_per_image  # loads what fits and draws: the WebUI's start is not to wait for it

    text = estimate(*values)
    try:
        order = _order(values)
        if trainer.running:
            raise GieError("a training is under way; look at its progress, which says how long it takes")
        per_image, work = seconds_per_image(order), amount(order)
    except GieError as error:
        return _error(error)
    return f"{text} {per_image:.2f} s per image here: at most {_duration(work.seconds(per_image))}."


def _status() -> str:
    """Return the state of the training as HTML.

    While there is an element of the class ``gie-running``, javascript/growth_inhibitors.js asks for it every second.
    """
    progress = trainer.progress
    text = html.escape(progress.text)
    if progress.state == "failed":
        return f"<span class='gie-error'>{text}</span>"
    if progress.state not in ("running", "asking"):
        return text
    if progress.expected:
        share = progress.evaluations / progress.expected
        done = f"{progress.evaluations} of {progress.expected} evaluations"
    else:
        share = progress.done / max(1, progress.total)
        done = f"{progress.done} of {progress.total} labels, {progress.images} images"
    known = progress.seconds > 0 and share > 0.05 and progress.state == "running"
    left = f", about {_duration(progress.seconds / share * (1 - share))} left" if known else ""
    ending = "; stopping after this batch" if trainer.stopping else ""
    return (
        f"<div class='gie-running gie-bar'><div style='width: {100 * share:.0f}%'></div></div>"
        f"{text}: {done} in {_duration(progress.seconds)}{left}{ending}"
    )


def _view() -> list[Any]:
    """Return the values of status, pictures, the button of a person who judges, report, and the adapter fields."""
    progress = trainer.progress
    finished = progress.state == "done"
    choices = [gr.update(choices=adapter_names()) if finished else gr.update() for _ in adapter_dropdowns()]
    return [
        _status(),
        gr.update(value=list(progress.pictures)),
        gr.update(visible=progress.state == "asking"),
        gr.update(value=list(progress.report), visible=finished),
        *choices,
    ]


def _now() -> list[Any]:
    """Return what the view depends on: it is sent again only when this has changed."""
    progress = trainer.progress
    done = progress.evaluations, progress.done, progress.images
    return [progress.state, progress.text, *done, len(progress.report), trainer.stopping]


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
        return [_now(), _error(error), *[gr.update() for _ in _view()[1:]]]
    return show()


def _stop() -> str:
    if not trainer.running:
        return "no training is under way"
    trainer.stop()
    return _status()


def _click(event: gr.SelectData) -> None:
    """Take a click on a picture for a person's answer. Raises OptionError for what is no picture."""
    trainer.answer(event.index)


def _fill(preset: _Preset) -> list[str]:
    return [preset.concept, preset.prompts, _list_text(preset.prompts), usual_judge(preset.concept)]


def _named(kind: Any, name: str, *args: Any, **options: Any) -> Any:
    return kind(*args, elem_id=f"{_PREFIX}_{name}", **options)


def _slider(name: str, value: float, label: str, **options: Any) -> Any:
    low, high, step = RANGES[name]
    return _named(gr.Slider, name, low, high, value=value, step=step or 0.5, label=label, **options)


def _prompt_fields() -> list[Any]:
    """Build concept, name, prompts, starter list and the tick that lets it replace; and the presets' buttons."""
    with gr.Row():
        concept = _named(gr.Textbox, "concept", label="Concept to erase", placeholder="van gogh style")
        name = _named(gr.Textbox, "name", label="Name of the adapter", placeholder="as the concept")
        replace = _named(gr.Checkbox, "replace", label="Replace an adapter of this name and concept", value=False)
    with gr.Row():
        buttons = [gr.Button(p.concept, size="sm", elem_id=f"{_PREFIX}_preset_{p.prompts}") for p in _PRESETS]
    starter = _named(gr.Dropdown, "list", label="Starter list of prompts", choices=starter_lists(), value="object")
    prompts = _named(gr.Textbox, "prompts", label="Prompts", lines=12, max_lines=24, value=_list_text("object"))
    starter.input(_list_text, [starter], [prompts], show_progress=False)
    return [concept, name, prompts, starter, replace, buttons]


def _label_fields() -> list[Any]:
    names = available_judges()
    told = "; ".join(f"{name}: {judge_class(name).summary}" for name in names)
    info = f"Who says whether the concept shows: {told}"
    with gr.Row():
        judge = _named(gr.Dropdown, "judge", label="Judge", choices=names, value=DEFAULT_JUDGE, info=info)
    with gr.Row():
        count = _slider("count", 100, "Prompts per section, at most")
        seeds = _slider("seeds", 4, "Images per prompt")
        scales = "of " + ", ".join(f"{scale:g}" for scale in GRID[1:])
        grid = _slider("grid", len(GRID) - 1, "Scales to try", info=scales)
    return [judge, count, seeds, grid]


def _sampling_fields(usual: dict[str, Any]) -> list[Any]:
    names = _samplers()
    usual_sampler = "DPM++ 2M" if "DPM++ 2M" in names else names[0]
    with gr.Row():
        made = [
            _named(gr.Dropdown, "sampler", label="Sampling method", choices=names, value=usual_sampler),
            _slider("steps", usual["steps"], "Sampling steps"),
            _slider("cfg", usual["cfg"], "CFG Scale"),
            _slider("width", usual["side"], "Width"),
            _slider("height", usual["side"], "Height"),
            _slider("batch", 8 if usual["side"] < 512 else 4, "Batch size"),
        ]
        # the page is often built before the model is loaded, and the model can be changed
        usual_button = _named(gr.Button, "usual", "Usual for the loaded model", size="sm")
    usual_button.click(_filled_sampling, None, made[1:5], show_progress=False)
    return made


def build_tab() -> list[tuple[Any, str, str]]:
    """Build the tab: the WebUI's on_ui_tabs callback."""
    usual = _defaults()
    with gr.Blocks(analytics_enabled=False) as blocks:
        gr.HTML(_INTRO)
        concept, name, prompts, starter, replace, buttons = _prompt_fields()
        labels, sampling = _label_fields(), _sampling_fields(usual)
        order = [concept, name, prompts, *labels, *sampling, replace]  # as in WorkOrder
        for button, preset in zip(buttons, _PRESETS, strict=True):
            filled = [concept, starter, prompts, labels[0]]
            button.click(lambda preset=preset: _fill(preset), None, filled, show_progress=False)
        with gr.Row():
            cost = _named(gr.HTML, "estimate", "")
            measure = _named(gr.Button, "measure", "Estimate the time", size="sm")
        with gr.Row():
            start = _named(gr.Button, "start", "Train", variant="primary")
            stop = _named(gr.Button, "stop", "Interrupt")
            look = _named(gr.Button, "watch", "Show progress")
        status = _named(gr.HTML, "status", "")
        pictures = _named(
            gr.Gallery, "pictures", label="Images, with their scale", columns=8, height=180, allow_preview=False
        )
        none_free = _named(gr.Button, "all_show", "All of them show it", visible=False)
        report = _named(gr.Gallery, "report", label="Report", columns=2, visible=False, object_fit="contain")
        shown = gr.State([])
        outputs = [shown, status, pictures, none_free, report, *adapter_dropdowns()]
        start.click(train, order, outputs, show_progress=False, queue=False)
        look.click(show, None, outputs, show_progress=False, queue=False)
        again = _named(gr.Button, "refresh", "", elem_classes=["gie-hidden"])
        again.click(refresh, [shown], outputs, show_progress=False, queue=False)
        stop.click(_stop, None, [status], show_progress=False, queue=False)
        measure.click(measured, order, [cost])
        pictures.select(_click, None, None, show_progress=False, queue=False)
        none_free.click(lambda: trainer.answer(None), None, None, show_progress=False, queue=False)
        for field in order:
            field.change(estimate, order, [cost], show_progress=False, queue=False)
    return [(blocks, TITLE, _PREFIX)]
