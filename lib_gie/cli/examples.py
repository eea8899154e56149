"""The examples that end each command's help."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass

_HEADING = "examples:"


@dataclass(frozen=True)
class Example:
    """One call of a command. ``arguments``: what follows the command's name; ``does``: what it does, and needs.

    It works on a fresh clone unless ``does`` says what it needs. Arguments are quoted as both Unix and Windows take it.
    """

    arguments: str
    does: str


class HelpFormatter(argparse.HelpFormatter):
    """Fills lines as usual, but leaves the examples as they are: a command that is broken in two cannot be copied."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return text if text.startswith(_HEADING) else super()._fill_text(text, width, indent)


def epilog(program: str, examples: Sequence[Example]) -> str:
    """Return the end of a command's help. ``program``: the command, as it is called."""
    lines = [_HEADING]
    for example in examples:
        lines += [f"  {program} {example.arguments}".rstrip(), f"      {example.does}"]
    return "\n".join(lines)
