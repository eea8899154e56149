"""The demo model's detector as a judge: exact, and for the demo model alone."""

from __future__ import annotations

from collections.abc import Sequence

from lib_gie.errors import OptionError
from lib_gie.training.image_maker import ImageMaker, Made

from .base import DEFAULT_JUDGE, Judge, Verdict

_FAMILY = "gie-demo"


class DetectorJudge(Judge):
    """Score 1 where the detector finds the concept, 0 where not."""

    summary = "the demo model's own detector of known glyphs"
    usual_for = frozenset({_FAMILY})
    name = "detector"

    def __init__(self, concept: str):
        self.concept = concept

    @classmethod
    def build(cls, maker: ImageMaker, concept: str) -> DetectorJudge:
        """Return the judge. Raises OptionError where the detector cannot know the concept."""
        from lib_gie.demo.glyphs import OBJECTS  # few use it: the WebUI's start is not to wait for the demo's parts

        if maker.base != _FAMILY or concept not in OBJECTS:
            raise OptionError(
                f"the detector knows the demo model's objects alone ({', '.join(OBJECTS)}), not {concept!r} on "
                f"{maker.base}; use the judge {DEFAULT_JUDGE!r}"
            )
        return cls(concept)

    def look(self, made: Made, prompts: Sequence[str]) -> list[Verdict]:
        """Return what the detector finds in each image."""
        from lib_gie.demo.detector import detect

        found = [detect(image) for image in made.images]
        return [Verdict(float(self.concept in names), tuple(sorted(names - {self.concept}))) for names in found]
