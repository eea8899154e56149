"""The commands of ``lib-gie`` and ``python -m lib_gie``; each is a module, imported when it is called."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

from lib_gie import __version__
from lib_gie.errors import GieError

COMMANDS = {
    "erase": "make an image without and with erasure, side by side",
    "demo": "erase in twelve prompts on the demo model and draw a contact sheet",
    "evaluate": "figures of erasure and preservation on a split of prompts and seeds",
    "quality": "figures of the demo model itself: does it draw what it is asked for?",
    "train": "label a concept's prompts on a model and fit an adapter to them",
    "calibrate": "find a concept's scale on a model without training",
    "judge": "how well a judge of images agrees with the demo model's detector",
    "bench": "time and memory of erasure beside the model alone and other ways",
    "adapters": "the adapters in models/ with their figures, and the page about them",
    "convert": "turn an adapter of the authors' code (.pth) into a safetensors file",
}


_EXIT_ERROR, _EXIT_INTERRUPTED = 2, 130
_LONGEST = 300  # letters of an error that is not this project's
_DEBUG = "on an error: show the traceback, too"


class _Parser(argparse.ArgumentParser):
    """A parser that ends bad usage with exit code 2 and one line."""

    def error(self, message: str):
        self.exit(_EXIT_ERROR, f"{self.prog}: error: {_one_line(message)}\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code.

    An error is one line on standard error and code 2; --debug shows its traceback, too. Ctrl+C is code 130. It is no
    error if the reader of the output goes away.
    """
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")  # else it names optional packages that nothing here uses
    _write_any_letter()
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    chosen = next((argument for argument in arguments if argument in COMMANDS), None)
    try:
        parser = _parser(chosen)
        _check_letters(parser, arguments)
        options = parser.parse_args(arguments)
        code = importlib.import_module(f".{options.command}", __package__).run(options) or 0
        if sys.stdout is not None:  # it is None where the caller has closed it
            sys.stdout.flush()
        return code
    except KeyboardInterrupt as stop:  # a command may say what the next try goes on from
        return _fail(chosen, str(stop) or "interrupted", "--debug" in arguments, _EXIT_INTERRUPTED)
    except BrokenPipeError:
        _drop_output()
        return 0
    except GieError as error:
        return _fail(chosen, str(error), "--debug" in arguments)
    except Exception as error:  # a library's, or the system's
        return _fail(chosen, f"{_named(error)} (--debug shows where)", "--debug" in arguments)


def _parser(chosen: str | None) -> _Parser:
    """Return the parser. ``chosen``: the one command whose options are added, so that no other's library is needed."""
    parser = _Parser(prog=_program(), description="Growth inhibitors: erase concepts from generated images.")
    parser.add_argument("--version", action="version", version=f"growth-inhibitors {__version__}")
    parser.add_argument("--debug", action="store_true", help=_DEBUG)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True, parser_class=_Parser)
    for name, summary in COMMANDS.items():
        sub = commands.add_parser(name, help=summary, description=summary, allow_abbrev=False)
        sub.add_argument("--debug", action="store_true", default=argparse.SUPPRESS, help=_DEBUG)
        if name == chosen:
            importlib.import_module(f".{name}", __package__).add_arguments(sub)
    return parser


def _program() -> str:
    """Return the name that this was called by: the console script's, or Python's way of running a package."""
    called = Path(sys.argv[0]).stem
    return called if called == "lib-gie" else "python -m lib_gie"


def _write_any_letter() -> None:
    """Write letters that the terminal's encoding lacks as numbers, so that an artist's name makes nothing fail."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def _check_letters(parser: _Parser, arguments: Sequence[str]) -> None:
    """End with an error on bytes that are no text, before they reach a tokenizer or a picture's metadata."""
    for argument in arguments:
        try:
            argument.encode()
        except UnicodeEncodeError:
            parser.error(f"{argument!r} is no text in this terminal's encoding; type it again, in UTF-8")


def _drop_output() -> None:
    """Send the rest of the output nowhere: flushing it at the end would fail again."""
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (OSError, ValueError):  # no file behind it
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _named(error: Exception) -> str:
    """Return kind and text of an error that is not this project's."""
    text = _one_line(str(error))
    shown = text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
    return f"{type(error).__name__}: {shown}" if text else type(error).__name__


def _fail(command: str | None, message: str, debug: bool, code: int = _EXIT_ERROR) -> int:
    if debug:
        traceback.print_exc()
    print(f"{_program()} {command}: error: {_one_line(message)}", file=sys.stderr)
    return code
