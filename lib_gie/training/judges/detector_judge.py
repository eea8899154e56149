"""The demo model's detector as a judge: exact, and for the demo model alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from lib_gie.demo.sampling_settings import FAMILY
from lib_gie.errors import OptionError
from lib_gie.training.image_maker import ImageMaker, Made

from .base import DEFAULT_JUDGE, Judge, Verdict

if TYPE_CHECKING:
    from lib_gie.demo.world.detector import Sight


class DetectorJudge(Judge):
    """Score 1 where the detector finds the concept, 0 where not.

    The concept is an object by any of its names, or a style that the background or an object has. What else is seen are
    the objects and the style of the background, without the concept. The styles of single objects are left out: an
    object that is erased takes its style with it, and objects that are drawn in another style when a style is erased
    are not lost.
    """

    summary = "the demo model's own detector of known objects and styles"
    usual_for = frozenset({FAMILY})

    def __init__(self, concept: str):
        from lib_gie.demo.words import thing_named
        from lib_gie.demo.world.detector import VERSION

        self.concept, self.name = thing_named(concept), f"detector {VERSION}"

    @classmethod
    def check(cls, base: str, concept: str, **unused: Any) -> None:
        """Raise OptionError where the detector cannot know the concept."""
        # few use the demo's parts, and the WebUI's start is not to wait for them
        from lib_gie.demo.words import thing_named
        from lib_gie.demo.world.concepts import STYLE_OF
        from lib_gie.demo.world.things import OBJECTS

        if base != FAMILY or thing_named(concept) is None:
            raise OptionError(
                f"the detector knows the demo model's objects ({', '.join(OBJECTS)}) and styles "
                f"({', '.join(STYLE_OF)}) alone, not {concept!r} on {base}; use the judge {DEFAULT_JUDGE!r}"
            )

    @classmethod
    def build(cls, maker: ImageMaker, concept: str) -> DetectorJudge:
        """Return the judge. Raises OptionError where the detector cannot know the concept."""
        cls.check(maker.base, concept)
        return cls(concept)

    def look(self, made: Made, prompts: Sequence[str]) -> list[Verdict]:
        """Return what the detector finds in each image."""
        from lib_gie.demo.world.detector import look

        return [self._verdict(look(image)) for image in made.images]

    def _verdict(self, sight: Sight) -> Verdict:
        from lib_gie.demo.world.styles import STYLES

        others = {*sight.objects, STYLES[sight.backdrop.style].phrase} - {self.concept, ""}
        return Verdict(float(self.concept in sight.shown), tuple(sorted(others)))
