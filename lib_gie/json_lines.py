"""JSON lines on disk: results that survive an interruption, one line each."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Generic, TypeVar

Key = TypeVar("Key")
Value = TypeVar("Value")


def read_entries(path: Path) -> Iterator[Any]:
    """Yield the entries of a file, none if there is no file. Lines that are no JSON (cut off, damaged) are left out."""
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else ():
        try:
            yield json.loads(line)
        except ValueError:
            continue


def append_entry(path: Path, entry: Any) -> None:
    """Add one entry on a line by itself, also where the file's last line was cut off."""
    with path.open("a", encoding="utf-8") as file:
        file.write("\n" + json.dumps(entry))


def identity_digest(identity: str) -> str:
    """Return 12 hex digits of the SHA-256 of a text that says what results depend on."""
    return hashlib.sha256(identity.encode()).hexdigest()[:12]


class KeptResults(Generic[Key, Value]):
    """Results by key, kept on disk, so that work that was interrupted goes on where it was.

    Of several processes each writes one file, and reads all. Which results belong together is in the files' names or
    their folder's (``identity_digest``).
    """

    def __init__(
        self,
        path: Path,
        pattern: str,
        *,
        read: Callable[[Any], tuple[Key, Value] | None],
        write: Callable[[Key, Value], Any],
    ):
        """Read what there is. Raises OSError where the folder cannot be made or read.

        ``path``: the file of this process; ``pattern``: of all processes' names in its folder. ``read``: an entry's key
        and value, None for what is no result; ``write``: the entry of a key and a value.
        """
        self.path, self._write = path, write
        path.parent.mkdir(parents=True, exist_ok=True)
        entries = [entry for part in sorted(path.parent.glob(pattern)) for entry in read_entries(part)]
        self.found: dict[Key, Value] = dict(pair for entry in entries if (pair := read(entry)) is not None)

    def add(self, key: Key, value: Value) -> None:
        """Keep one result."""
        self.found[key] = value
        append_entry(self.path, self._write(key, value))
