"""Words that the demo model has never seen."""

from __future__ import annotations

from collections.abc import Sequence

from .world.captions import unknown_words, words

_EXAMPLES = 3


def unknown_words_message(text: str, what: str, with_known: bool = True) -> str | None:
    """Return one line about the words of ``text`` that the demo model does not know, None where it knows all.

    ``what``: what the text is ("prompt", "concept"). ``with_known``: whether the line lists the words that it knows.
    """
    unknown = unknown_words(text)
    if not unknown:
        return None
    noun = "word" if len(unknown) == 1 else "words"
    message = f"the demo model does not know the {noun} {', '.join(unknown)} of the {what}"
    return f"{message}; it knows: {', '.join(words())}" if with_known else message


def unknown_in_prompts_message(prompts: Sequence[str], concept: str, better: str) -> str | None:
    """Return what is to be said of training prompts with words that the demo model does not know, None where none has.

    Words of the concept do not count: they are no fault of the prompts. ``better``: the name of a starter list without
    such words.
    """
    own = set(unknown_words(concept))
    found = [[word for word in unknown_words(prompt) if word not in own] for prompt in prompts]
    count = sum(map(bool, found))
    if not count:
        return None
    examples = list(dict.fromkeys(word for unknown in found for word in unknown))[:_EXAMPLES]
    return (
        f"{count} of {len(prompts)} prompts have words that the demo model does not know, such as "
        f"{', '.join(examples)}. Its images have little to do with such words. Take the starter list {better}, or "
        f"leave those prompts out."
    )
