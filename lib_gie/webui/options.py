"""Every option of the accordion, declared once: page, API, infotext and X/Y/Z axes are all made from this table."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..checks import quoted
from ..composition import CROSS_SHARE, SELF_SHARE
from ..concepts import Concept, parse_concepts
from ..errors import OptionError
from ..scale import DEFAULT_SCALE, LOWEST_SCALE
from ..settings import CONCEPT_PASSES, MAX_STRENGTH

AUTOMATIC, FIXED = "Automatic", "Fixed scale"
HIRES_PASSES = ("both", "first only", "second only")
TITLE = "Growth Inhibitors"


@dataclass(frozen=True)
class Option:
    """One option. ``kind``: "flag", "text", "choice", "adapter" or "number"; ``infotext``: its key there, if any."""

    name: str
    label: str
    kind: str
    default: Any
    help: str
    infotext: str | None = None
    low: float = 0.0
    high: float = 1.0
    step: float = 0.05
    choices: tuple[str, ...] = ()
    axis: bool = True

    def check(self, value: Any) -> Any:
        """The value in its proper type, None as the default. Raises OptionError for any other type or range."""
        if value is None:
            return self.default
        return _CHECKS[self.kind](self, value)


def _check_flag(option: Option, value: Any) -> bool:
    if not isinstance(value, bool):
        raise OptionError(f"{option.name} is {quoted(value)}; it must be true or false")
    return value


def _check_text(option: Option, value: Any) -> str:
    if not isinstance(value, str):
        raise OptionError(f"{option.name} is {quoted(value)}; it must be a text")
    return value


def _check_choice(option: Option, value: Any) -> str:
    if value not in option.choices if isinstance(value, str) else True:
        raise OptionError(f"{option.name} is {quoted(value)}; it must be one of {', '.join(map(repr, option.choices))}")
    return value


def _check_number(option: Option, value: Any) -> float:
    wanted = f"it must be a number from {option.low:g} to {option.high:g}"
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise OptionError(f"{option.name} is {quoted(value)}; {wanted}")
    if not (-1e300 < value < 1e300 and math.isfinite(value) and option.low <= value <= option.high):
        raise OptionError(f"{option.name} is {quoted(value)}; {wanted}")
    return float(value)


_CHECKS = {
    "flag": _check_flag,
    "text": _check_text,
    "adapter": _check_text,
    "choice": _check_choice,
    "number": _check_number,
}

OPTIONS = (
    Option("enabled", TITLE, "flag", False, "Leave the concepts below out of the image.", axis=False),
    Option(
        "concepts", "Concepts to erase", "text", "",
        "What shall not appear, separated by commas, semicolons or ends of lines: knife, wine:0.5, "
        '"van gogh, oil painting":1.2. The number after a colon multiplies the strength.',
        "GIE concepts",
    ),
    Option(
        "adapter", "Adapter", "adapter", AUTOMATIC,
        "Finds the right scale for each image. Automatic takes a fitting adapter for the concept and model, and where "
        "there is none a fixed scale.",
        "GIE adapter",
    ),
    Option(
        "strength", "Strength", "number", 1.0,
        "Multiplies every scale: below 1 erases less, above 1 more, 0 nothing.",
        "GIE strength", 0.0, MAX_STRENGTH, 0.05,
    ),
    Option(
        "scale", "Scale", "number", DEFAULT_SCALE,
        "For the fixed scale only: how strongly the concept is suppressed; -3 is usual, lower is stronger.",
        "GIE fixed scale", LOWEST_SCALE, 0.0, 0.25,
    ),
    Option("start", "Start", "number", 0.0, "Fraction of the sampling steps at which erasing starts.", "GIE steps"),
    Option("end", "End", "number", 1.0, "Fraction of the sampling steps at which erasing ends.", "GIE steps"),
    Option(
        "concept_pass", "Concept pass", "choice", CONCEPT_PASSES[0],
        "fused reads the concept's attention from the prompt's own pass and costs next to nothing; separate runs the "
        "model once more per concept and step, as in the paper.",
        "GIE concept pass", choices=CONCEPT_PASSES,
    ),
    Option(
        "hires", "Hires. fix pass", "choice", HIRES_PASSES[0],
        "In which passes of Hires. fix to erase; img2img has one pass, which is always erased from.",
        "GIE hires pass", choices=HIRES_PASSES,
    ),
    Option(
        "keep_composition", "Keep composition", "flag", False,
        "Also makes the image without erasure, and has the erased one attend where that one does: what is not erased "
        "stays in its place. Takes more than twice as long, and erases less.",
        "GIE keep composition",
    ),
    Option(
        "composition_cross", "Composition: prompt's attention", "number", CROSS_SHARE,
        "Fraction of the steps during which the prompt's attention is that of the image without erasure.",
        "GIE composition",
    ),
    Option(
        "composition_self", "Composition: self-attention", "number", SELF_SHARE,
        "Fraction of the steps during which the small self-attention maps are those of the image without erasure.",
        "GIE composition",
    ),
    Option(
        "show_before", "Show what it would have been", "flag", False,
        "Also makes the image without erasure from the same seed and shows it after the result. Concepts that this "
        "WebUI always erases are erased from it, too.",
        "GIE show before", axis=False,
    ),
    Option(
        "show_attention", "Show attention", "flag", False,
        "Shows where the attention to each concept was, as an overlay on the result, over all steps and step by step.",
        "GIE show attention", axis=False,
    ),
)  # fmt: skip
"""In the order of the API's positional arguments; new options go last."""

BY_NAME = {option.name: option for option in OPTIONS}


@dataclass(frozen=True)
class Request:
    """What one generation is asked to erase, checked. ``adapter`` is "Automatic", "Fixed scale" or a file's stem."""

    concepts: tuple[Concept, ...]
    adapter: str = AUTOMATIC
    strength: float = 1.0
    scale: float = DEFAULT_SCALE
    start: float = 0.0
    end: float = 1.0
    concept_pass: str = CONCEPT_PASSES[0]
    hires: str = HIRES_PASSES[0]
    keep_composition: bool = False
    composition_cross: float = CROSS_SHARE
    composition_self: float = SELF_SHARE
    show_before: bool = False
    show_attention: bool = False

    def __post_init__(self):
        if self.start >= self.end:
            raise OptionError(f"start is {self.start:g} and end is {self.end:g}; start must be below end")


def _from_mapping(values: Mapping) -> dict[str, Any]:
    unknown = [key for key in values if key not in BY_NAME]
    if unknown:
        raise OptionError(f"unknown argument {quoted(unknown[0])}; known are {', '.join(BY_NAME)}")
    return {**values, "enabled": True if values.get("enabled") is None else values["enabled"]}


def _named(args: Sequence[Any]) -> dict[str, Any]:
    """Arguments by name, from positions or from one dict in the first place (where the page's defaults may follow)."""
    if args and isinstance(args[0], Mapping):
        return _from_mapping(args[0])
    if len(args) > len(OPTIONS):
        raise OptionError(f"{len(args)} arguments were given; there are {len(OPTIONS)}: {', '.join(BY_NAME)}")
    return {option.name: value for option, value in zip(OPTIONS, args, strict=False)}


def read_request(args: Sequence[Any], overrides: Mapping[str, Any] | None = None) -> Request | None:
    """The request in a script's arguments, None if it is switched off.

    ``args``: positional values in the order of OPTIONS (None stands for the default), or one dict with their names,
    in which ``enabled`` defaults to true. ``overrides``: values by name that take precedence (X/Y/Z axes); they switch
    erasure on.

    Raises OptionError or ConceptError for whatever cannot be understood while erasure is asked for.
    """
    values = _named(args)
    if overrides:
        values |= {**_from_mapping(overrides), "enabled": True}
    if not BY_NAME["enabled"].check(values.pop("enabled", None)):
        return None
    checked = {option.name: option.check(values.get(option.name)) for option in OPTIONS[1:]}
    return Request(parse_concepts(checked.pop("concepts")), **checked)


def check_api_arguments(args: Any) -> None:
    """Raise for the arguments of an API request that the WebUI would misunderstand silently, and for bad values.

    ``args``: the request's ``alwayson_scripts`` entry: {"args": [...]}.
    """
    if not isinstance(args, Mapping) or not isinstance(args.get("args"), (list, tuple)):
        raise OptionError(
            f'the entry for "{TITLE}" in alwayson_scripts is {quoted(args)}; it must be '
            f'{{"args": [true, "knife"]}} or {{"args": [{{"concepts": "knife"}}]}}'
        )
    unknown = [key for key in args if key != "args"]
    if unknown:
        raise OptionError(f'unknown key {quoted(unknown[0])} beside "args" for "{TITLE}" in alwayson_scripts')
    values = args["args"]
    if values and isinstance(values[0], Mapping) and len(values) > 1:
        raise OptionError(f"a dict of arguments must be the only argument; {len(values)} were given")
    read_request(values)
