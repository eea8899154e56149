"""JSON lines on disk: results that shall survive an interruption, one line each."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def read_entries(path: Path) -> Iterator[Any]:
    """The entries of a file, none if there is no file; the line that an interruption cut off is left out."""
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else ():
        try:
            yield json.loads(line)
        except ValueError:
            continue


def append_entry(path: Path, entry: Any) -> None:
    """Add one entry, on a line of its own whatever the file ends with."""
    with path.open("a", encoding="utf-8") as file:
        file.write("\n" + json.dumps(entry))
