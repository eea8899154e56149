"""The tab's first step: the concept and the prompts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gradio as gr

from lib_gie.core.concepts import Concept, format_concepts, parse_concepts
from lib_gie.demo.sampling_settings import FAMILY
from lib_gie.errors import GieError, OptionError
from lib_gie.hosts.presets import Preset
from lib_gie.hosts.webui.page.presets import buttons_of_presets
from lib_gie.training.prompts import bare, starter_list, starter_list_for, starter_lists

from .fields import PREFIX, line, named, step
from .lines import error_html
from .suitable import family_now, suitable_judge

FIRST = "object"
"""Name of the starter list that the tab begins with."""

_PROMPTS_NOTE = (
    "One a line. Those under [explicit] name the concept; {concept} stands for it. Those under [implicit] bring it in "
    "without its name. Those under [unrelated] have nothing to do with it, and their images are to stay as they are."
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
        buttons_of_presets(PREFIX, _fill, [], [concept, starter, prompts, judge])
        starter.render()
        prompts.render()
        said = line("what")
    concept.blur(_suited, [concept, starter, prompts], [starter, prompts, judge], show_progress=False, queue=False)
    starter.input(_chosen, [starter], [prompts, said], show_progress=False, queue=False)
    return WhatFields(concept, prompts, said)


def _fill(preset: Preset) -> list[str]:
    """Return the first of a preset's concepts, its starter list's name and text, and the judge for it."""
    concept = parse_concepts(preset.concepts)[0].text
    return [format_concepts([Concept(concept)]), *_suitable(concept)]


def _suitable(concept: str) -> list[str]:
    """Return a concept's starter list's name and text, and the judge for it."""
    name = starter_list_for(concept, family_now() == FAMILY)
    return [name, starter_list(name), suitable_judge(concept)]


def _suited(text: Any, name: Any, prompts: Any) -> list[Any]:
    """Return the starter list, the prompts and the judge that suit a concept that was typed.

    Nothing changes where the list suits it already, and where there are prompts of the user's own.
    ``name``: that of the list.
    """
    as_before = [gr.update()] * 3
    try:
        concept = bare(text) if isinstance(text, str) and text.strip() else ""
        is_untouched = prompts == starter_list(name)
    except GieError:  # the step's line says what is wrong
        return as_before
    found = _suitable(concept) if concept and is_untouched else [name]
    return as_before if found[0] == name else found


def _chosen(name: Any) -> list[Any]:
    """Return a starter list's prompts, and what is to be said: the page's field offers no other, a handler may be."""
    try:
        return [starter_list(name), gr.update()]
    except OptionError as error:
        return [gr.update(), error_html(error)]
