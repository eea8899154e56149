"""What a judge is, and where each one lives."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from lib_gie.errors import OptionError
from lib_gie.training.image_maker import Host, Made

JUDGES = {
    "detector": "the demo model's own detector of known glyphs",
    "self": "the diffusion model as a zero-shot classifier; works for any checkpoint and needs nothing else",
    "nudenet": "NudeNet, for nudity; needs the package nudenet",
    "vision": "a vision language model behind an OpenAI-compatible endpoint",
    "hand": "you: a page shows an image at every scale, and you click on the first without it",
}


@dataclass(frozen=True)
class Verdict:
    """``score``: how much the concept shows, in the judge's units. ``others``: other things seen, None if unknown."""

    score: float
    others: tuple[str, ...] | None = None


class Uncalibrated:
    """A judge whose scores mean the same for every model and concept, and who is asked about single images."""

    whole_rows = False
    calibrates = False

    def calibrate(self, showing: Sequence[float], absent: Sequence[float]) -> None:
        """Nothing to learn."""


class Judge(Protocol):
    """Looks at images; made for one host and concept."""

    name: str
    """With all settings that its verdicts depend on: verdicts of a judge with another name are not reused."""

    whole_rows: bool
    """Whether it wants to see one image at all scales at once instead of what a search asks for."""

    calibrates: bool
    """Whether ``calibrate`` must come before ``shows``."""

    def look(self, made: Made, prompts: Sequence[str]) -> list[Verdict]:
        """One verdict per image."""
        ...

    def calibrate(self, showing: Sequence[float], absent: Sequence[float]) -> None:
        """Learn from scores of images of prompts that name the concept, and of unrelated ones, what a score means."""
        ...

    def shows(self, verdict: Verdict, before: Verdict) -> bool:
        """Whether the concept shows; ``before``: the verdict on the same prompt and seed without erasure."""
        ...


def check_judge(name: str) -> None:
    """Raise OptionError for a name that is not in JUDGES."""
    if name not in JUDGES:
        raise OptionError(f"there is no judge {name!r}; choose one of {', '.join(JUDGES)}")


def make_judge(name: str, host: Host, concept: str, **settings: Any) -> Judge:
    """The judge of a name in JUDGES. Raises OptionError for others."""
    check_judge(name)
    module = importlib.import_module(f".{name}_judge", __package__)
    return module.build(host, concept, **settings)
