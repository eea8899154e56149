"""Concepts as the commands take them."""

from __future__ import annotations

import re

from lib_gie.core.concepts import Concept, parse_concepts
from lib_gie.errors import OptionError

_IN_BRACKETS = re.compile(r"[(\[].*[)\]]")  # emphasis, where it is around all of a concept


def read_concepts(option: str, text: str) -> tuple[Concept, ...]:
    """Return the concepts of an option's text.

    Raises ConceptError where it cannot be read, OptionError where it has the syntax of the WebUI's prompts.
    """
    from lib_gie.training.prompts import webui_syntax

    if found := webui_syntax(text):
        raise _foreign(option, found)
    concepts = parse_concepts(text)
    for concept in concepts:
        if _IN_BRACKETS.fullmatch(concept.text):
            raise _foreign(option, concept.text)
    return concepts


def bare_concepts(option: str, text: str) -> list[str]:
    """Return the texts of concepts that can have no weight here. Raises OptionError where one has.

    Raises what ``read_concepts`` does, too.
    """
    concepts = read_concepts(option, text)
    for concept in concepts:
        if concept.weight != 1:
            raise OptionError(
                f"{option} gives {concept.text!r} the weight {concept.weight:g}, which counts only where a concept is "
                f"erased; leave it out here, and give it to erase"
            )
    return [concept.text for concept in concepts]


def one_concept(option: str, text: str) -> str:
    """Return the text of the only concept. Raises OptionError for several, and what ``bare_concepts`` does."""
    found = bare_concepts(option, text)
    if len(found) != 1:
        raise OptionError(f"{option} names {len(found)} concepts; give one at a time")
    return found[0]


def _foreign(option: str, found: str) -> OptionError:
    return OptionError(
        f"{option} has {found!r}, which is syntax of the WebUI's prompts; name a concept by its words alone (where it "
        f"is erased, a weight may follow a colon: knife:1.3)"
    )
