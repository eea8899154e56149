"""What is doubtful about a list of prompts, found without an image: a training on it may be in vain."""

from __future__ import annotations

import re
from collections.abc import Sequence

from lib_gie.checks import quoted

ENOUGH = 12
"""Prompts with the concept, and without it, below which there is a doubt."""

_LETTERS = 3
"""The least number of letters that two forms of a word begin with."""

_ENDING = 3
"""Letters at the end of a word in which its forms may differ: nudity, nude."""


def doubts(prompts: Sequence[tuple[str, str]], concept: str) -> list[str]:
    """Return what is doubtful about prompts and their kinds, a sentence each; nothing where all seems well.

    ``prompts``: as ``parse_prompts`` returns them.
    """
    explicit, implicit, unrelated = (
        [prompt for prompt, kind in prompts if kind == wanted] for wanted in ("explicit", "implicit", "unrelated")
    )
    found = []
    if (count := len(explicit) + len(implicit)) < ENOUGH:
        found.append(
            f"There are few prompts with {quoted(concept)}: {count}. Give {ENOUGH} or more, or the adapter is likely "
            f"to be no better than a fixed scale."
        )
    if 0 < len(unrelated) < ENOUGH:
        found.append(
            f"There are few unrelated prompts: {len(unrelated)}. Give {ENOUGH} or more, or the adapter may "
            f"also change images without {quoted(concept)}."
        )
    if explicit and not any(mentions(prompt, concept) for prompt in explicit):
        found.append(
            f"No prompt under [explicit] names {quoted(concept)}. Write {{concept}} where the name belongs, or put "
            f"prompts that only imply it under [implicit]."
        )
    named = [prompt for prompt in unrelated if has_words(prompt, concept)]
    if named:
        found.append(
            f"There are prompts under [unrelated] that name {quoted(concept)}, such as {quoted(named[0])}. Move them "
            f"to [explicit]."
        )
    return found


def has_words(text: str, concept: str) -> bool:
    """Tell whether a text has the concept's words as they are, one after the other."""
    return re.search(rf"(?<!\w){re.escape(concept.casefold())}(?!\w)", text.casefold()) is not None


def mentions(prompt: str, concept: str) -> bool:
    """Tell whether a prompt seems to name a concept: it has its text, or forms of at least half of its words."""
    prompt, concept = prompt.casefold(), concept.casefold()
    if concept in prompt:
        return True
    wanted, there = re.findall(r"\w+", concept), re.findall(r"\w+", prompt)
    known = sum(any(word.startswith(_stem(one)) for word in there) for one in wanted)
    return bool(wanted) and 2 * known >= len(wanted)


def _stem(word: str) -> str:
    return word[: max(_LETTERS, len(word) - _ENDING)]
