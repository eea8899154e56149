"""``python -m lib_gie adapters``: the adapters in models/ with what their metadata says, and docs/ADAPTERS.md."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from lib_gie.assets import MODELS
from lib_gie.errors import OptionError

from .examples import Example
from .pages import around, write_part

EXAMPLES = (
    Example("", "The adapters in models/, with their figures."),
    Example("--json", "The same as a JSON list."),
    Example("--folder my-adapters", "This needs a folder of adapters, here my-adapters."),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("--folder", type=Path, default=MODELS, help="folder with adapters (default: models/)")
    parser.add_argument(
        "--page", type=Path, metavar="FILE", help="write the tables into their part of this Markdown page, too"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object per file, in a list")


def _infos(folder: Path) -> list:
    """Return each usable adapter's name, its description, and the concepts for which Automatic takes it."""
    from lib_gie.hosts.library import list_adapters, taken_for

    usable, broken = list_adapters([folder])
    for name, reason in broken.items():
        print(f"warning: {name} is no usable adapter: {reason}", file=sys.stderr)
    return [(found.name, found.info, taken_for(found, usable, [folder])) for found in usable]


def _tables(infos: list) -> str:
    from lib_gie.evaluation.figures import shown, table

    made = []
    for name, info, taken in infos:
        training, errors = info.training, info.validation
        counts = [training.get("prompts", ""), training.get("images", ""), ", ".join(training.get("judge", ()))]
        values = [errors.get("validation_error", ""), errors.get("constant_error", "")]
        command = f"`{training.get('command', '')}`"
        made.append((name, info.base, ", ".join(info.concepts), ", ".join(taken), *counts, *values, command))
    header = (
        "file", "family", "concepts", "Automatic takes it for",
        "prompts", "images", "judge", "error", "error of the best constant", "made by"
    )  # fmt: skip
    rows = [
        (name, row["prompts"], row["n"], shown(row, "left"), shown(row, "kept"), shown(row, "unharmed"))
        for name, info, _ in infos
        for row in info.validation.get("images", {}).get("rows", ())
    ]
    figures = ("file", "prompts", "images", "erased concept left", "other objects kept", "images unharmed")
    return f"{table(header, made)}\n\n{table(figures, rows)}"


def run(options: argparse.Namespace) -> None:
    """Read all adapters and print what they say."""
    command = "adapters --page docs/ADAPTERS.md"
    if options.page:
        around(options.page, command)
    if not options.folder.is_dir():
        raise OptionError(f"--folder is {options.folder}, and there is no such folder; name one with adapters")
    infos = _infos(options.folder)
    if not infos:
        raise OptionError(f"there are no adapters in {options.folder}; make some with python -m lib_gie train")
    tables = _tables(infos)
    if options.page:
        write_part(options.page, command, tables)
    print(json.dumps([_plain(*info) for info in infos]) if options.json else tables)


def _plain(name: str, info, taken: list[str]) -> dict:
    return {
        "name": name, "base": info.base, "concepts": info.concepts, "automatic": taken, "inputs": info.inputs,
        "label_range": info.label_range, "training": info.training, "validation": info.validation,
    }  # fmt: skip
