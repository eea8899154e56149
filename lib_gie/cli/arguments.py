"""Arguments of the commands that stand for an erasure's options."""

from __future__ import annotations

import argparse
from typing import Any

from lib_gie.options import BY_NAME, Option

_AS_DECLARED = object()


def add_options(
    parser: argparse._ActionsContainer, *names: str, default: Any = _AS_DECLARED, usual: str | None = None
) -> None:
    """Add an argument for each of these options.

    ``default``: the value of a missing argument where it is not the option's. ``usual``: what the help calls it then.
    """
    for name in names:
        option = BY_NAME[name]
        flag = "--" + name.replace("_", "-")
        if option.kind == "flag":
            parser.add_argument(flag, action="store_true", help=option.help)
            continue
        kind = {"choices": option.choices} if option.kind == "choice" else {"type": float, "metavar": "NUMBER"}
        value = option.default if default is _AS_DECLARED else default
        parser.add_argument(flag, default=value, help=_help(option, usual), **kind)


def _help(option: Option, usual: str | None) -> str:
    if option.kind == "choice":
        return option.help
    return f"{option.help} {option.low:g} to {option.high:g} (default: {usual or format(option.default, 'g')})."
