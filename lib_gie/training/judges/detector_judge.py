"""The demo model's detector as a judge: exact, and for the demo model alone."""

from __future__ import annotations

from collections.abc import Sequence

from lib_gie.demo.detector import detect
from lib_gie.demo.glyphs import OBJECTS
from lib_gie.errors import OptionError
from lib_gie.training.image_maker import Host, Made

from .base import Uncalibrated, Verdict


class DetectorJudge(Uncalibrated):
    """Score 1 where the detector finds the concept, 0 where not."""

    name = "detector"

    def __init__(self, concept: str):
        self.concept = concept

    def look(self, made: Made, prompts: Sequence[str]) -> list[Verdict]:
        """What it finds in each image."""
        found = [detect(image) for image in made.images]
        return [Verdict(float(self.concept in names), tuple(sorted(names - {self.concept}))) for names in found]

    def shows(self, verdict: Verdict, before: Verdict) -> bool:
        """Whether it found the concept."""
        return verdict.score > 0.5


def build(host: Host, concept: str) -> DetectorJudge:
    """Raises OptionError where the detector cannot know the concept."""
    if host.base != "gie-demo" or concept not in OBJECTS:
        raise OptionError(
            f"the detector knows the demo model's objects alone ({', '.join(OBJECTS)}), not {concept!r} on "
            f"{host.base}; use the judge 'self'"
        )
    return DetectorJudge(concept)
