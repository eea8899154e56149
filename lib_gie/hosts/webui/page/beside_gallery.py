"""Beside the gallery: what was erased from each image, "Was it there?", and the slider between both images."""

from __future__ import annotations

import html
import re
from dataclasses import dataclass, field
from typing import Any

import gradio as gr
from modules import shared
from modules.call_queue import wrap_gradio_gpu_call
from modules.ui_tempdir import check_tmp_file
from PIL import Image

from lib_gie.errors import ErasureError
from lib_gie.hosts.webui.host.chosen import HOST
from lib_gie.hosts.webui.shown.erased_lines import can_ask, lines_of
from lib_gie.hosts.webui.shown.readout import NOT_OURS

ASK = "Was it there?"
_OF_GRID = (
    "The chosen picture shows several images, so the first of them was made without erasure. Choose one of the others "
    "to ask for it"
)
_PERFORMANCE = "<div class='performance'>"
_ERROR = re.compile(r"<div class='error'>.*?</div>", re.DOTALL)


@dataclass
class _Beside:
    """A tab's components: the WebUI's by the beginnings of their elem_ids, and ours."""

    theirs: dict[str, Any] = field(default_factory=dict)
    concepts: Any = None
    lines: Any = None
    ask: Any = None


_tabs: dict[str, _Beside] = {}


def begin() -> None:
    """Forget the components of the page before."""
    _tabs.clear()


def add_concepts(tab: str, component: Any) -> None:
    """Remember the field of a tab's concepts."""
    _tabs.setdefault(tab, _Beside()).concepts = component


def place_beside(component: Any, elem_id: str | None = None, **unused: Any) -> None:
    """Build our part of a tab's results below its gallery: the WebUI's on_after_component callback.

    It stands where the WebUI puts the files to download, between the gallery's buttons and the infotext.
    """
    name = str(elem_id or "")
    tab = next((tab for tab in _tabs if tab in name), None)
    if tab is None:
        return
    beside, kind = _tabs[tab], name.replace(tab, "").strip("_")
    beside.theirs[kind] = component
    if kind == "download_files":
        _build(tab, beside)
    elif kind == "generation_info":
        if beside.lines is None:
            _build(tab, beside)
        _connect(tab, beside)


def _slider(tab: str) -> str:
    name = "How much of the picture is shown without erasure"
    field = f"<input type='range' id='gie_{tab}_compare_at' min='0' max='100' value='50' aria-label='{name}'>"
    sides = "<span>Left: without erasure</span>", "<span>Right: with erasure</span>"
    return f"<div class='gie-compare' hidden>{field.join(sides)}</div>"


def _build(tab: str, beside: _Beside) -> None:
    prefix = f"gie_{tab}"
    with gr.Column(elem_id=f"{prefix}_beside", elem_classes="gie-beside"):
        gr.HTML(_slider(tab), elem_id=f"{prefix}_compare")
        gr.HTML("", elem_id=f"{prefix}_now")  # the page's script fills it
        beside.lines = gr.HTML("", elem_id=f"{prefix}_erased")
        beside.ask = gr.Button(ASK, size="sm", elem_id=f"{prefix}_ask", elem_classes="gie-ask", visible=False)
        beside.ask.do_not_save_to_config = True


def _connect(tab: str, beside: _Beside) -> None:
    theirs = beside.theirs
    info, gallery, log = theirs["generation_info"], theirs.get("gallery"), theirs.get("html_log")
    shown = {"show_progress": False, "queue": False}
    info.change(_after, [info, beside.concepts], [beside.lines, beside.ask], **shown)
    if HOST.makes_unerased_later and gallery is not None and log is not None:
        beside.ask.click(
            wrap_gradio_gpu_call(_ask, extra_outputs=[gr.update(), gr.update()]),
            [info, info, info, gallery, log],  # the page's script puts the job's name and the chosen picture first
            [gallery, info, log],
            _js=f"(...values) => window.growthInhibitorsAsk('{tab}', values)",
            show_progress=False,
            api_name=False,
        )


def _after(info: Any, concepts: Any) -> tuple[str, Any]:
    """Return the lines of a generation, and the button's update."""
    return lines_of(info, concepts), gr.update(visible=HOST.makes_unerased_later and can_ask(info))


def _ask(id_task: str, chosen: Any, info: Any, gallery: Any, log: Any) -> tuple[Any, str, str]:
    """Make the chosen picture's image without erasure. Return the gallery with it, what is known of it, and notes.

    ``info``: the JSON that the WebUI keeps of the generation. ``log``: the notes on the images, which stay. Raises
    ErasureError where that cannot be.
    """
    from lib_gie.hosts.webui.shown.chosen_picture import ChosenPicture
    from lib_gie.hosts.webui.shown.kept_jobs import kept_job
    from lib_gie.hosts.webui.shown.on_demand import make_unerased

    # what is wrong with what the page sends is found before an image is made
    picture = ChosenPicture(chosen, info)
    job, pictures = kept_job(picture.job), _files_of(gallery)
    made = make_unerased(job, picture.text)
    notes = html.escape("\n".join([*made.notes, *([_OF_GRID] if picture.is_grid else [])])).replace("\n", "<br>")
    shown = [*map(_again, pictures), made.picture]
    told = picture.with_unerased(len(pictures), made.text)
    return shown, told, _with_notes(log, f"<p class='comments'>{notes}</p>" if notes else "")


def _with_notes(log: Any, notes: str) -> str:
    """Return the notes on the images, and those of this job where they are new.

    ``log``: what the page shows. An error of an earlier try is left out, as is the time that a job took: the WebUI adds
    that of this one.
    """
    before = log.partition(_PERFORMANCE)[0] if isinstance(log, str) else ""
    before = _ERROR.sub("", before)
    return before if notes in before else before + notes


def _files_of(gallery: Any) -> list[str]:
    """Return the files of the pictures in the gallery. Raises ErasureError for what is no gallery."""
    try:
        return [_file_of(one) for one in gallery or ()]
    except NOT_OURS as error:
        raise ErasureError("the gallery cannot be read; press Generate and ask again") from error


def _file_of(entry: Any) -> str:
    """Return the file of a picture in the gallery. Raises ErasureError for one that the WebUI does not give away."""
    value = entry[0] if isinstance(entry, (list, tuple)) else entry
    path = str(value["name"]).rsplit("?", 1)[0]
    if not check_tmp_file(shared.demo, path):
        raise ErasureError("the gallery has a picture that this WebUI has not made; press Generate and ask again")
    return path


def _again(path: str) -> Image.Image:
    """Return what the WebUI shows a file for, which is not read: any picture that says where it is saved."""
    picture = Image.new("RGB", (1, 1))
    vars(picture)["already_saved_as"] = path
    return picture
