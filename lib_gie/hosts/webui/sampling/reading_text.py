"""What the page's progress bar says while it is found out how present concepts are in the prompts."""

from __future__ import annotations

from collections.abc import Iterable

from modules import shared

from lib_gie.core.erasure import Erasure
from lib_gie.core.rows import Name

_MOST_CHARACTERS = 80


def unread(erasures: Iterable[Erasure], names: Iterable[Name]) -> list[str]:
    """Return the concepts whose scales the coming UNet call has to read for some of these rows."""
    rows = [name for name in names if name is not None]
    found = [
        target.encoded.concept.text
        for erasure in erasures
        if erasure.injects and any(row not in erasure.scales for row in rows)
        for target in erasure.targets
        if target.rule.readings
    ]
    return list(dict.fromkeys(found))


class ReadingText:
    """The text of a step in which concepts are read. The next step brings back what was there before."""

    def __init__(self) -> None:
        self._is_shown = False
        self._before: str | None = None

    def begin_step(self, concepts: Iterable[str]) -> None:
        """Show which concepts the step reads, if there are any."""
        self.end()
        text = ", ".join(concepts)
        if not text:
            return
        if len(text) > _MOST_CHARACTERS:
            text = text[: _MOST_CHARACTERS - 1] + "…"
        self._is_shown, self._before = True, getattr(shared.state, "textinfo", None)
        shared.state.textinfo = f"reading how present {text} is"

    def end(self) -> None:
        """Bring back what was there before."""
        if self._is_shown:
            self._is_shown, shared.state.textinfo = False, self._before
