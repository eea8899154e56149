"""Words that the demo model has never seen."""

from __future__ import annotations

from .world.captions import unknown_words, words


def unknown_words_message(text: str, what: str) -> str | None:
    """Return one line about the words of ``text`` that the demo model does not know, None where it knows all.

    ``what``: what the text is ("prompt", "concept").
    """
    unknown = unknown_words(text)
    if not unknown:
        return None
    return (
        f"the demo model does not know the {'word' if len(unknown) == 1 else 'words'} {', '.join(unknown)} of the "
        f"{what}; it knows: {', '.join(words())}"
    )
