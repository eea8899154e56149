"""Files in parts of at most 16 MB, as some machines that lend a graphics card hand back no larger ones.

``python -m lib_gie.demo.parts split FILE FOLDER`` and ``... join FOLDER FILE``.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
from pathlib import Path

from lib_gie.errors import GieError

LARGEST = 16_000_000
"""Bytes in a part."""

_INDEX = "parts.json"


def _partial(path: Path) -> Path:
    return path.with_name(path.name + ".partial")


def split(path: Path, folder: Path, largest: int = LARGEST) -> list[Path]:
    """Write a file's parts and an index into a folder. Return the parts, in order."""
    content = path.read_bytes()
    folder.mkdir(parents=True, exist_ok=True)
    parts = [folder / f"part-{number:02d}" for number in range(-(-len(content) // largest))]
    index = {"parts": [part.name for part in parts], "sha256": hashlib.sha256(content).hexdigest()}
    written = {part: content[number * largest : (number + 1) * largest] for number, part in enumerate(parts)}
    written[folder / _INDEX] = (json.dumps(index) + "\n").encode()
    for path, value in written.items():
        _partial(path).write_bytes(value)
    for path in written:  # all at once: a machine may be taken back at any time, and older parts are better than mixed
        os.replace(_partial(path), path)
    return parts


def join(folder: Path, path: Path) -> None:
    """Put the parts in a folder together again, in one move.

    Raises GieError where the index or a part lacks or is another file's; then nothing is written.
    """
    try:
        index = json.loads((folder / _INDEX).read_text(encoding="utf-8"))
        content = b"".join((folder / Path(name).name).read_bytes() for name in index["parts"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise GieError(f"{folder} does not hold all parts of a file: {error}; split the file again") from error
    if hashlib.sha256(content).hexdigest() != index.get("sha256"):
        raise GieError(f"the parts in {folder} do not belong together: their digest is not the index's; split it again")
    _partial(path).write_bytes(content)
    os.replace(_partial(path), path)


def main() -> None:
    """Split or join."""
    parser = argparse.ArgumentParser(prog="python -m lib_gie.demo.parts", description=__doc__)
    parser.add_argument("what", choices=("split", "join"))
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    options = parser.parse_args()
    if options.what == "split":
        split(options.source, options.target)
    else:
        join(options.source, options.target)


if __name__ == "__main__":
    main()
