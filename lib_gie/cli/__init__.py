"""The commands of ``lib-gie`` and ``python -m lib_gie``; each is a module, imported when it is called."""

from __future__ import annotations

import argparse
import importlib
import os
import select
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

from lib_gie import __version__
from lib_gie.errors import GieError

from .examples import HelpFormatter, epilog

COMMANDS = {
    "erase": "make an image without and with erasure, side by side",
    "demo": "erase in twelve prompts on the demo model and draw a contact sheet",
    "doctor": "say what is installed and found here, what is wrong, and what to do about it",
    "calibrate": "find a concept's scale on a model without training",
    "train": "label a concept's prompts on a model and fit an adapter to them",
    "adapters": "list the adapters in models/ with their figures, or write the page about them",
    "convert": "turn an adapter of the authors' code (.pth) into a safetensors file",
    "evaluate": "measure what is erased and what is kept, on a split of prompts and seeds",
    "quality": "measure whether the demo model draws what it is asked for",
    "judge": "measure how well a judge of images agrees with the demo model's detector",
    "bench": "measure time and memory of erasure, beside the model alone and other ways",
}


_EXIT_ERROR, _EXIT_INTERRUPTED = 2, 130
_LONGEST = 300  # letters of an error that is not this project's
_LONGEST_USAGE = 600  # letters of what argparse says, which quotes an argument in full
_DEBUG = "show the traceback of an error, too"
_INSTALL = 'install it in a clone of this project: python -m pip install ".[commands]"'


class _Parser(argparse.ArgumentParser):
    """A parser that ends bad usage with exit code 2 and one line."""

    def error(self, message: str):
        self.exit(_EXIT_ERROR, f"{self.prog}: error: {_cut(_one_line(message), _LONGEST_USAGE)}\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code.

    An error is one line on standard error and code 2; --debug shows its traceback, too. Code 1 is doctor's, where it
    finds a problem. Ctrl+C is code 130. It is no error if the reader of the output goes away.
    """
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")  # else it names optional packages that nothing here uses
    _open_closed_streams()
    _write_any_letter()
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    chosen = next((argument for argument in arguments if argument in COMMANDS), None)
    debug = "--debug" in arguments
    try:
        return _run(chosen, arguments)
    except KeyboardInterrupt as stop:  # a command may say what the next try goes on from
        return _fail(chosen, str(stop) or "interrupted", debug, _EXIT_INTERRUPTED, kind="")
    except BrokenPipeError as error:
        if not _is_reader_gone():  # another pipe broke: the work is not done
            return _fail(chosen, _named(error), debug)
        _drop(sys.stdout)
        return 0
    except GieError as error:
        return _fail(chosen, str(error), debug)
    except ModuleNotFoundError as error:
        return _fail(chosen, _missing(error), debug)
    except Exception as error:  # a library's, or the system's
        return _fail(chosen, f"{_named(error)} (--debug shows where)", debug)


def _run(chosen: str | None, arguments: Sequence[str]) -> int:
    """Run the command and write out all that it printed, so that a reader that is gone is noticed here."""
    try:
        parser = _parser(chosen)
        _check_letters(parser, arguments)
        options = parser.parse_args(arguments)
        code: int = importlib.import_module(f".{options.command}", __package__).run(options) or 0
    except SystemExit:  # --help and --version end the program
        sys.stdout.flush()
        raise
    sys.stdout.flush()
    return code


def _parser(chosen: str | None) -> _Parser:
    """Return the parser. ``chosen``: the one command whose options are added, so that no other's library is needed."""
    parser = _Parser(
        prog=_program(), description="Growth inhibitors: erase concepts from generated images.", allow_abbrev=False,
        epilog="COMMAND --help shows the options of a command, with examples.",
    )  # fmt: skip
    parser.add_argument(
        "--version", action="version", version=f"growth-inhibitors {__version__}", help="show the version and exit"
    )
    parser.add_argument("--debug", action="store_true", help=_DEBUG)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True, parser_class=_Parser)
    for name, summary in COMMANDS.items():
        about = f"{summary[0].upper()}{summary[1:]}."
        sub = commands.add_parser(
            name, help=summary, description=about, allow_abbrev=False, formatter_class=HelpFormatter
        )
        sub.add_argument("--debug", action="store_true", default=argparse.SUPPRESS, help=_DEBUG)
        if name == chosen:
            module = importlib.import_module(f".{name}", __package__)
            module.add_arguments(sub)
            sub.epilog = epilog(sub.prog, module.EXAMPLES)
    return parser


def _program() -> str:
    """Return the name that this was called by: the console script's, or Python's way of running a package."""
    called = Path(sys.argv[0]).stem
    return called if called == "lib-gie" else "python -m lib_gie"


def _open_closed_streams() -> None:
    """Open the streams that the caller has closed, to nowhere: what print cannot send to the one goes to the other."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115


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


def _is_reader_gone() -> bool:
    """Tell whether standard output is a pipe that nobody reads. Where the system cannot say, it is taken for one."""
    try:
        sys.stdout.flush()
        asked = select.poll()
        asked.register(sys.stdout.fileno(), select.POLLOUT)
        return any(event & (select.POLLERR | select.POLLHUP) for _, event in asked.poll(0))
    except (BrokenPipeError, AttributeError):
        return True
    except (OSError, ValueError):  # no file behind it
        return False


def _drop(stream: TextIO) -> None:
    """Send the rest of a stream nowhere: flushing it at the end would fail again, in several lines."""
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    except (OSError, ValueError):  # no file behind it
        setattr(sys, "stdout" if stream is sys.stdout else "stderr", open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else f"{text[:longest]}..."


def _named(error: Exception) -> str:
    """Return kind and text of an error that is not this project's."""
    text = _cut(_one_line(str(error)), _LONGEST)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _missing(error: ModuleNotFoundError) -> str:
    """Return what to do about a library that is not installed."""
    library = (error.name or "").partition(".")[0]
    if not library or library == __package__.partition(".")[0]:
        return _named(error)
    return f"this needs the Python library {library}, which is not installed; {_INSTALL}"


def _fail(command: str | None, message: str, debug: bool, code: int = _EXIT_ERROR, kind: str = "error: ") -> int:
    """Write an error to standard error, and return the exit code. ``kind``: stands before the message."""
    try:
        sys.stdout.flush()
    except OSError:  # a full disk, for example
        _drop(sys.stdout)
    try:
        if debug:
            traceback.print_exc()
        print(
            f"{' '.join(filter(None, [_program(), command]))}: {kind}{_one_line(message)}", file=sys.stderr, flush=True
        )
    except OSError:  # nobody reads it
        _drop(sys.stderr)
    return code
