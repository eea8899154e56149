"""``python -m lib_gie adapters``: the adapters in models/ with what their metadata says, and docs/ADAPTERS.md."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from ..errors import OptionError
from .erase import MODELS_DIR
from .pages import around, write_part


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument("--folder", type=Path, default=MODELS_DIR, help="where they lie (default: models/)")
    parser.add_argument("--page", type=Path, metavar="FILE", help="write them into this Markdown page's tables")
    parser.add_argument("--json", action="store_true", help="print one JSON object per file, in a list")


def _infos(folder: Path) -> list:
    from ..adapter import read_info

    return [(path.stem, read_info(path)) for path in sorted(folder.glob("*.safetensors"))]


def _tables(infos: list) -> str:
    from ..evaluation.figures import shown, table

    made = []
    for name, info in infos:
        training, errors = info.training, info.validation
        counts = [training.get("prompts", ""), training.get("images", ""), ", ".join(training.get("judge", ()))]
        values = [errors.get("validation_error", ""), errors.get("constant_error", "")]
        command = f"`{training.get('command', '')}`"
        made.append((name, info.base, ", ".join(info.concepts), *counts, *values, command))
    header = (
        "file", "family", "concepts", "prompts", "images", "judge", "error", "error of the best constant", "made by"
    )  # fmt: skip
    rows = [
        (name, row["prompts"], row["n"], shown(row, "left"), shown(row, "kept"), shown(row, "unharmed"))
        for name, info in infos
        for row in info.validation.get("images", {}).get("rows", ())
    ]
    figures = ("file", "prompts", "images", "erased object left", "other objects kept", "images unharmed")
    return f"{table(header, made)}\n\n{table(figures, rows)}"


def run(options: argparse.Namespace) -> None:
    """Read them all and print."""
    command = "adapters --page docs/ADAPTERS.md"
    if options.page:
        around(options.page, command)
    infos = _infos(options.folder)
    if not infos:
        raise OptionError(f"there are no adapters in {options.folder}; python -m lib_gie train makes some")
    tables = _tables(infos)
    if options.page:
        write_part(options.page, command, tables)
    print(json.dumps([_plain(name, info) for name, info in infos]) if options.json else tables)


def _plain(name: str, info) -> dict:
    return {
        "name": name, "base": info.base, "concepts": info.concepts, "inputs": info.inputs,
        "label_range": info.label_range, "training": info.training, "validation": info.validation,
    }  # fmt: skip
