"""The image without erasure of a finished image, made when somebody asks for it.

It is a job like any other, with erasing switched off: all that makes, changes, refuses and saves images does so here,
and what an admin enforces is erased from it.
"""

from __future__ import annotations

from contextlib import closing
from typing import Any

from modules import processing, shared
from PIL import Image

from lib_gie.errors import ErasureError
from lib_gie.hosts.webui.request.infotext import ALL_KEYS, ENFORCED
from lib_gie.hosts.webui.request.parsing import TITLE

from .beside import SAVE_BEFORE, Picture, as_the_results, saves_results
from .kept_jobs import KeptJob
from .own_infotexts import image_in, prompts_of, settings_of

_PROMPTS = "prompts"
_LEFT_OUT = frozenset(ALL_KEYS) - {ENFORCED}


class OnDemand:
    """The image without erasure: ``picture``, its infotext ``text``, and ``notes`` on it for the user."""

    def __init__(self, picture: Image.Image, text: str, notes: list[str]):
        self.picture, self.text, self.notes = picture, text, notes


def entries_of(infotext: Any) -> dict[str, str]:
    """Return an infotext's settings and, under one key, its prompts; nothing for what is no text.

    Those that say what the user has erased, and how strongly, are left out. What an admin enforces is a setting of the
    WebUI, which may change.
    """
    prompts = {_PROMPTS: prompts_of(infotext)} if isinstance(infotext, str) else {}
    return prompts | {key: value for key, value in settings_of(infotext).items() if key not in _LEFT_OUT}


def make_unerased(job: KeptJob, infotext: Any) -> OnDemand:
    """Return the image of ``job`` that has this infotext, without erasure.

    Raises ErasureError where there is none: it was stopped, or another extension does not let it be shown.
    """
    asked = entries_of(infotext)
    p = job.without_erasure(job.number_of(*image_in(asked)))
    saves, p.do_not_save_samples = p.do_not_save_samples, True  # it is saved under its own name and setting, below
    with closing(p):
        processed = processing.process_images(p)
        picture = _picture(processed)
        p.do_not_save_samples = saves
        text = processed.infotexts[processed.index_of_first_image]
        shown = _as_shown(p, picture, text)
    shared.total_tqdm.clear()
    notes = [getattr(processed, "comments", "") or "", _differences(asked, entries_of(text))]
    return OnDemand(shown, text, [note.strip() for note in notes if note.strip()])


def _picture(processed: Any) -> Image.Image:
    if shared.state.interrupted or shared.state.skipped:
        raise ErasureError("it was stopped before the image without erasure was done")
    images = processed.images[processed.index_of_first_image :]
    if not images or not isinstance(images[0], Image.Image):
        raise ErasureError("another extension has taken the image without erasure away, so it is not shown")
    return images[0]


def _as_shown(p: Any, picture: Image.Image, text: str) -> Image.Image:
    """Return the picture after all that happens to results that are saved, and save it where the user wants it."""
    if not saves_results(p):
        return picture
    shown = Picture("without", picture, None, "-without-erasure", SAVE_BEFORE, (0, 0), text=text)
    passed_on, note = as_the_results(p, shown, picture)
    if passed_on is None:
        raise ErasureError(note or "another extension failed on the image without erasure, so it is not shown")
    return passed_on


def _differences(asked: dict[str, str], made: dict[str, str]) -> str:
    """Say by which settings the image differs from the one that was asked for; "" where by none."""
    keys = [key for key in dict.fromkeys([*asked, *made]) if asked.get(key) != made.get(key)]
    if not keys:
        return ""
    return (
        f"{TITLE}: settings have changed since the erased image was made ({', '.join(keys)}), so the image without "
        f"erasure need not be what it would have been"
    )
