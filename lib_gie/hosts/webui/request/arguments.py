"""The WebUI's command-line arguments by which its admin enforces erasure. A value that cannot be used ends the start.

``preload.py`` adds them before torch is imported, so nothing that this file imports may import torch.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from lib_gie.assets import MODELS
from lib_gie.checks import quoted
from lib_gie.core.concepts import format_concepts, parse_concepts
from lib_gie.errors import AdapterError, GieError, OptionError
from lib_gie.options import AUTOMATIC, BY_NAME, FIXED, FLOOR


def _type(name: str, read: Callable[[str], Any]) -> Callable[[str], Any]:
    """Return a type for argparse, which prints the errors of ``read`` and ends with status 2."""

    def checked(text: str) -> Any:
        try:
            return read(text)
        except GieError as error:
            raise argparse.ArgumentTypeError(str(error)) from error

    checked.__name__ = name
    return checked


def read_concepts(text: Any) -> str:
    """Return the concepts to enforce, in the form that ``format_concepts`` gives them.

    Raises ConceptError, and OptionError for a weight of 0: then nothing would be erased.
    """
    concepts = parse_concepts(text)
    for concept in concepts:
        if concept.weight == 0:
            raise OptionError(f"the weight of {quoted(concept.text)} is 0, so it would not be erased; leave it out")
    return format_concepts(concepts)


def _number(text: Any, name: str) -> float:
    try:
        value = float(text)
    except (TypeError, ValueError, OverflowError) as error:
        raise OptionError(f"the {name} is {quoted(text)}; it must be a number") from error
    if isinstance(text, bool) or not math.isfinite(value):
        raise OptionError(f"the {name} is {quoted(text)}; it must be a number")
    return value


def read_strength(text: Any) -> float:
    """Return a strength above 0. Raises OptionError."""
    value: float = BY_NAME["strength"].check(_number(text, "strength"))
    if value == 0:
        raise OptionError("the strength is 0, so nothing would be erased; it must be above 0")
    return value


def read_scale(text: Any) -> float:
    """Return a fixed scale below 0. Raises OptionError."""
    value: float = BY_NAME["scale"].check(_number(text, "scale"))
    if value == 0:
        raise OptionError("the scale is 0, so nothing would be erased; it must be below 0, for example -3")
    return value


def read_floor(text: Any) -> float:
    """Return a scale that no image's is to be weaker than; 0 asks for nothing. Raises OptionError."""
    return float(FLOOR.check(_number(text, "floor")))


def _adapter_reader(folders: Sequence[Path]) -> Callable[[str], str]:
    def read_adapter(text: str) -> str:
        found = {path.stem for folder in folders if folder.is_dir() for path in folder.glob("*.safetensors")}
        if text not in (AUTOMATIC, FIXED) and text not in found:
            known = ", ".join([AUTOMATIC, FIXED, *sorted(found)])
            raise AdapterError(f"there is no adapter {quoted(text)}; installed are: {known}")
        return text

    return read_adapter


def folders_among(models: Path | str) -> list[Path]:
    """Return where adapters lie: the shipped ones' folder, and the user's own in ``models``, the WebUI's folder."""
    return [MODELS, Path(models) / "growth-inhibitors"]


def calibrations_among(models: Path | str) -> Path:
    """Return where calibrations are kept in ``models``, the WebUI's folder."""
    return folders_among(models)[-1] / "calibrations"


def add_arguments(parser: argparse.ArgumentParser, models: Path | str) -> None:
    """Add the arguments to the WebUI's parser. ``models``: the WebUI's folder of models."""
    # the API's description takes a list's type from its default; argparse copies it
    parser.add_argument(
        "--gie-enforce", metavar="CONCEPTS", action="append", default=[], type=_type("concepts", read_concepts),
        help='concepts that growth inhibitors erase from every image, for example: "nudity, gore"; can be given again',
    )  # fmt: skip
    parser.add_argument(
        "--gie-enforce-strength", metavar="NUMBER", type=_type("strength", read_strength), default=None,
        help="strength for the concepts of --gie-enforce, above 0 and at most 3 (default: 1)",
    )  # fmt: skip
    parser.add_argument(
        "--gie-enforce-adapter", metavar="NAME", action="append", default=[],
        type=_type("adapter", _adapter_reader(folders_among(models))),
        help='adapter for the concepts of --gie-enforce: a name, "Fixed scale" or "Automatic" (default); given again, '
        "each concept takes the one that is for it",
    )  # fmt: skip
    parser.add_argument(
        "--gie-enforce-scale", metavar="NUMBER", type=_type("scale", read_scale), default=None,
        help='the scale for the concepts of --gie-enforce with --gie-enforce-adapter "Fixed scale", or where no '
        "adapter fits, from -20 to below 0 (default: -3)",
    )  # fmt: skip
    parser.add_argument(
        "--gie-enforce-floor", metavar="NUMBER", type=_type("floor", read_floor), default=None,
        help="a scale that the concepts of --gie-enforce always get at least, from -20 to 0 (default: 0, none)",
    )  # fmt: skip
    parser.add_argument(
        "--gie-enforce-calibrated", choices=("on", "off"), default=None,
        help="whether what is enforced, here or in the settings, is calibrated on each checkpoint before its first "
        "image where no adapter is there for it (default: on; off: the fixed scale)",
    )  # fmt: skip
    parser.add_argument(
        "--gie-tab", choices=("on", "off"), default=None,
        help="whether the tab that trains adapters is there (default: off where concepts are enforced, and with "
        "--listen, --share, --ngrok or --server-name of another address than this machine's own; else on)",
    )  # fmt: skip
