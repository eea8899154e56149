"""The commands of ``python -m lib_gie``; each lives in a module of its own and is imported when it is called."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence

from ..errors import GieError

COMMANDS = {
    "erase": "make an image without and with erasure, side by side",
    "demo": "erase in eight prompts on the demo model and draw a contact sheet",
    "evaluate": "figures of erasure and preservation on a split of prompts and seeds",
    "quality": "figures of the demo model itself: does it draw what it is asked for?",
    "train": "label a concept's prompts on a model and fit an adapter to them",
    "judge": "how well a judge of images agrees with the demo model's detector",
    "bench": "time and memory of erasure beside the model alone and other ways",
    "adapters": "the adapters in models/ with their figures, and the page about them",
    "convert": "turn an adapter of the authors' code (.pth) into a safetensors file",
}


class _Parser(argparse.ArgumentParser):
    """Bad usage ends with exit code 2 and one line."""

    def error(self, message: str):
        self.exit(2, f"{self.prog}: error: {message}\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code. Errors on purpose are one line on standard error and code 2."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")  # it tells of optional packages that nothing here uses
    parser = _Parser(prog="python -m lib_gie", description="Growth inhibitors: erase concepts from generated images.")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True, parser_class=_Parser)
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    chosen = next((argument for argument in arguments if argument in COMMANDS), None)
    for name, summary in COMMANDS.items():
        sub = commands.add_parser(name, help=summary, description=summary, allow_abbrev=False)
        if name == chosen:  # the others' libraries are not needed
            importlib.import_module(f".{name}", __package__).add_arguments(sub)
    options = parser.parse_args(arguments)
    try:
        return importlib.import_module(f".{options.command}", __package__).run(options) or 0
    except GieError as error:
        print(f"python -m lib_gie {options.command}: error: {error}", file=sys.stderr)
        return 2
