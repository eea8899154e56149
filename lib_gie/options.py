"""Every option of an erasure, declared once.

Page, API, infotext, X/Y/Z axes, command line, diffusers and the names of methods that are compared take names, ranges,
defaults and texts from this table, and have values checked by it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from .checks import quoted
from .core.rules import RULES, erasing_rule
from .errors import OptionError

AUTOMATIC, FIXED = "Automatic", "Fixed scale"
CONCEPT_PASSES = ("fused", "separate")
HIRES_PASSES = ("both", "first only", "second only")

LOWEST_SCALE = -20.0
DEFAULT_SCALE = -3.0

CROSS_SHARE, SELF_SHARE = 0.8, 0.4
"""The authors' fractions of the steps for which a composition is kept."""


@dataclass(frozen=True)
class Option:
    """One option. ``kind``: "flag", "text", "choice", "adapter" or "number"; ``infotext``: its key there, or ""."""

    name: str
    label: str
    kind: str
    default: Any
    help: str
    infotext: str = ""
    low: float = 0.0
    high: float = 1.0
    step: float = 0.05
    choices: tuple[str, ...] = ()
    axis: bool = True

    def check(self, value: Any) -> Any:
        """Return the value in its proper type. Raises OptionError for any other type or range."""
        return _CHECKS[self.kind](self, value)

    def read(self, value: Any) -> Any:
        """Return the checked value of a request, in which None stands for the default."""
        return self.default if value is None else self.check(value)


def _check_flag(option: Option, value: Any) -> bool:
    if not isinstance(value, bool):
        raise OptionError(f"{option.name} is {quoted(value)}; it must be true or false")
    return value


def _check_text(option: Option, value: Any) -> str:
    if not isinstance(value, str):
        raise OptionError(f"{option.name} is {quoted(value)}; it must be a text")
    return value


def _check_choice(option: Option, value: Any) -> str:
    if not isinstance(value, str) or value not in option.choices:
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
    Option("enabled", "Growth Inhibitors", "flag", False, "Leave the concepts below out of the image.", axis=False),
    Option(
        "concepts", "Concepts to erase", "text", "",
        "What is not to appear, separated by commas, semicolons or ends of lines: knife, wine:0.5, "
        '"van gogh, oil painting":1.2. The number after a colon multiplies the strength.',
        "GIE concepts",
    ),
    Option(
        "adapter", "Adapter", "adapter", AUTOMATIC,
        "Finds the right scale for each image. Automatic takes a fitting adapter for the concept and model, and where "
        "there is none the concept's calibration on this checkpoint, which the first image makes.",
        "GIE adapter",
    ),
    Option(
        "strength", "Strength", "number", 1.0,
        "Multiplies every scale: below 1 erases less, above 1 more, 0 nothing.",
        "GIE strength", 0.0, 3.0, 0.05,
    ),
    Option(
        "scale", "Scale", "number", DEFAULT_SCALE,
        "For the fixed scale only: how strongly the concept is erased; -3 is usual, and lower is stronger.",
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
    Option(
        "rule", "Erasing rule", "choice", next(iter(RULES)),
        "; ".join(f"{name}: {entry.summary}" for name, entry in RULES.items()) + ".",
        "GIE rule", choices=tuple(RULES),
    ),
)  # fmt: skip
"""In the order of the API's positional arguments; new options go last."""

BY_NAME = {option.name: option for option in OPTIONS}


PADDING = Option(
    "padding", "Padding", "number", 0.0,
    "Beyond the paper: EOS and padding of the concept's text are inhibited, too, at this share of the scale of its own "
    "tokens.",
)  # fmt: skip
"""This option exists on diffusers and in the names of compared methods only. It is meant for models whose text encoder
gathers a text's meaning there."""

FLOOR = Option(
    "floor", "Least scale", "number", 0.0,
    "No image's scale is weaker, whatever its adapter, strength and weight say; 0: none.",
    low=LOWEST_SCALE, high=0.0,
)  # fmt: skip
"""This option is an admin's: no request has it."""

_CHECKED = {name: BY_NAME[name] for name in ("strength", "start", "end", "concept_pass", "rule")} | {"padding": PADDING}


@dataclass(frozen=True)
class ErasureSettings:
    """The settings of one erasure; OPTIONS says what each means. Raises OptionError for values out of range.

    ``start``, ``end``: fractions of the sampling between which something is erased.
    ``concept_pass``: "fused" takes M* from the prompt's own pass, as the authors' code does; "separate" from a UNet
    pass under the concept (Algorithm 1 of the paper), which costs one conditional pass per concept and step.
    ``rule``: the name of an erasing rule.
    """

    strength: float = BY_NAME["strength"].default
    start: float = BY_NAME["start"].default
    end: float = BY_NAME["end"].default
    concept_pass: str = BY_NAME["concept_pass"].default
    padding: float = PADDING.default
    rule: str = BY_NAME["rule"].default

    def __post_init__(self) -> None:
        for name, option in _CHECKED.items():
            object.__setattr__(self, name, option.check(getattr(self, name)))
        if self.start >= self.end:
            raise OptionError(f"start is {self.start:g} and end is {self.end:g}; start must be below end")
        if self.concept_pass != CONCEPT_PASSES[0] or self.padding:
            self._check_attention()

    def _check_attention(self) -> None:
        """Raise OptionError for an erasing rule without concept passes, which these options are about."""
        if not erasing_rule(self.rule).has_concept_pass:
            named = f"padding is {self.padding:g}" if self.padding else f"concept_pass is {self.concept_pass!r}"
            raise OptionError(
                f"{named}, and rule is {self.rule!r}, which has no concept pass; set concept_pass to "
                f"{CONCEPT_PASSES[0]!r} and padding to 0, or take another rule"
            )

    def includes(self, progress: float) -> bool:
        """Tell whether something is erased at this fraction of the sampling; an end of 1 includes the last step."""
        return self.start <= progress and (progress < self.end or self.end == 1.0)
