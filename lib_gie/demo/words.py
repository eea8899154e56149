"""Words that the demo model has never seen."""

from __future__ import annotations

from .world.captions import unknown_words, words


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
