"""Arguments of the commands that stand for an erasure's options."""

from __future__ import annotations

import argparse
import math
from typing import Any

from lib_gie.errors import OptionError
from lib_gie.options import BY_NAME, Option

_AS_DECLARED = object()
_MAX_SEED = 2**63 - 65  # an image and the 63 after it have seeds that fit into 64 bits, as torch wants them


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


def check_number(name: str, value: float | None, low: float, high: float) -> None:
    """Raise OptionError where the value of ``--name`` is outside these bounds or no finite number. None is no value."""
    if value is not None and not (math.isfinite(value) and low <= value <= high):
        raise OptionError(f"--{name} is {value}; it must be from {low} to {high}")


def check_sampling(cfg: float | None = None, seed: int | None = None) -> None:
    """Raise OptionError for a CFG scale (``--cfg``) or a first seed (``--seed``) that no image can be made with."""
    check_number("cfg", cfg, 0, 100)
    check_number("seed", seed, 0, _MAX_SEED)


def _help(option: Option, usual: str | None) -> str:
    if option.kind == "choice":
        return option.help
    return f"{option.help} {option.low:g} to {option.high:g} (default: {usual or format(option.default, 'g')})."
