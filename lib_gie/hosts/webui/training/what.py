"""The tab's first step: the concept and the prompts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gradio as gr

from lib_gie.core.concepts import Concept, format_concepts, parse_concepts
from lib_gie.errors import GieError, OptionError
from lib_gie.hosts.presets import Preset
from lib_gie.hosts.webui.page.presets import buttons_of_presets
from lib_gie.training.prompts import bare, starter_list, starter_lists

from .fields import PREFIX, line, named, step
from .lines import error_html
from .suitable import is_usual, suitable_judge, suitable_list

FIRST = "object"
"""Name of the starter list that the tab begins with."""

_PROMPTS_NOTE = (
    "One a line. Those under [explicit] name the concept; {concept} stands for it. Those under [implicit] bring it in "
    "without its name. Those under [unrelated] have nothing to do with it, and their images are to stay as they are. "
    "Of those under [unrelated unless named] the ones that name the concept are left out."
)


@dataclass(frozen=True)
class WhatFields:
    """The step's fields. ``line``: what is said of them."""

    concept: Any
    prompts: Any
    line: Any


def build_what(judge: Any) -> WhatFields:
    """Build the step. ``judge``: the next step's field, which the presets fill in as well."""
    with step("what", "1. What is to be erased"):
        concept = named(gr.Textbox, "concept", label="Concept to erase", placeholder="van gogh style")
        # they are placed after the buttons that fill them in
        starter = named(gr.Dropdown, "list", label="Starter list of prompts", choices=starter_lists(), value=FIRST,
                        render=False)  # fmt: skip
        prompts = named(gr.Textbox, "prompts", label="Prompts", lines=10, max_lines=20, value=starter_list(FIRST),
                        info=_PROMPTS_NOTE, render=False)  # fmt: skip
        # the WebUI would keep the text of a list that the next version may have mended
        starter.do_not_save_to_config = prompts.do_not_save_to_config = True
        known = gr.State("")
        buttons_of_presets(PREFIX, _fill, [starter, prompts, judge], [concept, known, starter, prompts, judge])
        starter.render()
        prompts.render()
        said = line("what")
    concept.blur(_suited, [concept, known, starter, prompts, judge], [known, starter, prompts, judge],
                 show_progress=False, queue=False)  # fmt: skip
    starter.input(_chosen, [starter], [prompts, said], show_progress=False, queue=False)
    return WhatFields(concept, prompts, said)


def _fill(preset: Preset, name: Any, prompts: Any, judge: Any) -> list[Any]:
    """Return the first of a preset's concepts, that again, its starter list's name and text, and the judge for it.

    See ``_suited`` for what stays.
    """
    concept = parse_concepts(preset.concepts)[0].text
    return [format_concepts([Concept(concept)]), concept, *_suitable(concept, name, prompts, judge)]


def _suitable(concept: str, name: Any, prompts: Any, judge: Any) -> list[Any]:
    """Return the name and text of the starter list for a concept, and the judge for it."""
    return [*_list_for(concept, name, prompts), suitable_judge(concept) if is_usual(judge) else gr.update()]


def _list_for(concept: str, name: Any, prompts: Any) -> list[Any]:
    """Return the name and text of the starter list for a concept; no change where there are prompts of one's own."""
    suited = suitable_list(concept)
    try:
        is_untouched = prompts == starter_list(name) and name != suited
    except OptionError:  # nobody knows what is there
        is_untouched = False
    return [suited, starter_list(suited)] if is_untouched else [gr.update()] * 2


def _suited(text: Any, known: Any, name: Any, prompts: Any, judge: Any) -> list[Any]:
    """Return the concept that was typed, and the starter list's name and text and the judge that suit it.

    Nothing changes where it is the concept that is ``known``, for which others may have been chosen. Prompts of the
    user's own stay. So does a judge that is usual for nothing, because somebody has chosen it. ``name``: that of the
    list.
    """
    try:
        concept = bare(text) if isinstance(text, str) else ""
    except GieError:  # the step's line says what is wrong
        concept = ""
    if concept in ("", known):
        return [gr.update()] * 4
    return [concept, *_suitable(concept, name, prompts, judge)]


def _chosen(name: Any) -> list[Any]:
    """Return a starter list's prompts, and what is to be said: the page's field offers no other, a handler may be."""
    try:
        return [starter_list(name), gr.update()]
    except OptionError as error:
        return [gr.update(), error_html(error)]
