"""Words that the demo model has never seen, and what those mean that it has."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from difflib import get_close_matches

from lib_gie.named import words_of

from .world.captions import unknown_words, words
from .world.concepts import STYLE_OF
from .world.things import OBJECTS, UNWANTED

_EXAMPLES = 3
MISTAKEN = frozenset({"watercolour"})
"""What the detector sees in blurred images of the plain style as well: see ``world.detector.BLURRED_PREFERENCE``."""

_NEAR = 0.75  # likeness of two words of which one may be meant by the other
_ARTICLES = ("a", "an", "the")


def unknown_words_message(text: str, what: str, with_known: bool = True) -> str | None:
    """Return one line about the words of ``text`` that the demo model does not know, None where it knows all.

    ``what``: what the text is ("prompt", "concept"). ``with_known``: whether the line says what it draws.
    """
    unknown = unknown_words(text)
    if not unknown:
        return None
    noun = "word" if len(unknown) == 1 else "words"
    message = f"the demo model does not know the {noun} {', '.join(unknown)} of the {what}"
    return f"{message}. {known_words_text(text)}" if with_known else message


def unknown_concept_message(text: str) -> str | None:
    """Return one line for a command that is to erase what the demo model does not know, None where it knows it."""
    message = unknown_words_message(text, "concept", with_known=False)
    if message is None:
        return None
    return f"{message}; name another thing, or take another model with --model. {known_words_text(text)}"


def known_words_text(text: str) -> str:
    """Return sentences on what the demo model draws. ``text``: one with words that it does not know."""
    near = [found for word in unknown_words(text) for found in get_close_matches(word, words(), 1, _NEAR)]
    meant = f"Did you mean {', '.join(dict.fromkeys(near))}? " if near else ""
    return (
        f"{meant}It draws {', '.join(OBJECTS)}, and the styles {', '.join(STYLE_OF)}; models/demo/README.md lists all "
        f"words that it knows"
    )


def unknown_in_prompts_message(prompts: Sequence[str], concept: str, better: str) -> str | None:
    """Return what is to be said of training prompts with words that the demo model does not know, None where none has.

    Words of the concept do not count: they are no fault of the prompts. ``better``: the name of a starter list that
    has no such words.
    """
    own = set(unknown_words(concept))
    found = [[word for word in unknown_words(prompt) if word not in own] for prompt in prompts]
    count = sum(map(bool, found))
    if not count:
        return None
    examples = list(dict.fromkeys(word for unknown in found for word in unknown))[:_EXAMPLES]
    those = "prompt has" if count == 1 else "prompts have"
    return (
        f"{count} {those} words that the demo model does not know, such as {', '.join(examples)}. Its images have "
        f"little to do with such words. Take the starter list {better}."
    )


def thing_named(text: str) -> str | None:
    """Return the object or style that a text names, by the detector's name for it; None where it has no name for it.

    The name, a synonym or a description may have an article before it, and letters of any case.
    """
    return _names().get(bare_name(text))


def is_style(text: str) -> bool:
    """Tell whether a text names a style that the demo model knows."""
    return thing_named(text) in STYLE_OF


@functools.cache
def _names() -> dict[str, str]:
    """Return the detector's name for all that a text may call a thing."""
    own = {name: (name,) for name in (*OBJECTS, *STYLE_OF)}
    others = {name: (*thing.synonyms, *thing.descriptions) for name, thing in UNWANTED.items()}
    return {bare_name(called): name for names in (others, own) for name, calls in names.items() for called in calls}


def bare_name(text: str) -> str:
    """Return a text's words in small letters, without an article at their head."""
    found = words_of(text)
    return " ".join(found[1:] if len(found) > 1 and found[0] in _ARTICLES else found)
