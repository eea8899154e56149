"""The steps of a long command, as it says them while it runs."""

from __future__ import annotations

import sys


class Steps:
    """Says on standard error which of a known number of steps begins.

    ``total``: how many there are. ``is_shown``: False says nothing, as in all processes but the first.
    """

    def __init__(self, total: int, is_shown: bool = True):
        self.total, self.done, self._is_shown = total, 0, is_shown

    def begin(self, text: str) -> None:
        """Say that the next step begins. ``text``: what is done in it."""
        self.done += 1
        if self._is_shown:
            print(f"step {self.done} of {self.total}: {text}", file=sys.stderr)
