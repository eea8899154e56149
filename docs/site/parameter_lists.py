"""The parameters in a docstring as a list: a sentence that begins with ````name````: is one of its entries.

In the sources such sentences follow each other in one paragraph, which the site would show as one.
"""

from __future__ import annotations

import re

_NAMES = r"``[\w.*]+``(?:,\s+``[\w.*]+``)*(?:\s+\([^)]*\))?"
_ENTRY = re.compile(rf"(?:^|(?<=\.\s)|(?<=\.\)\s)|(?<=; ))(?={_NAMES}:\s)")
_AFTER = re.compile(r"(?<=[.)\]])\s+(?=(?:Returns?|Raises|Yields) )")


def listed(docstring: str) -> str:
    """Return a docstring, plain text, with the parameters of each paragraph as a list of Markdown."""
    return "\n\n".join(map(_with_list, re.split(r"\n\s*\n", docstring)))


def _with_list(paragraph: str) -> str:
    """Return a paragraph whose sentences on parameters are a list. Code, which is indented, stays as it is."""
    before, *entries = _ENTRY.split(paragraph)
    if not entries or re.search(r"^(?: {4}|- )", paragraph, re.MULTILINE):
        return paragraph
    *others, last = entries
    last, *after = _AFTER.split(last, maxsplit=1)
    points = "\n".join(f"- {' '.join(entry.split()).removesuffix(';')}" for entry in (*others, last))
    return "\n\n".join(part for part in (before.strip().removesuffix(";"), points, *after) if part)
