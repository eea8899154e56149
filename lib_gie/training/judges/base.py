"""The base class of judges, and the table of all judges."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from lib_gie.errors import OptionError

if TYPE_CHECKING:
    from lib_gie.training.image_maker import ImageMaker, Made

JUDGES = {
    "detector": "detector_judge.DetectorJudge",
    "self": "self_judge.SelfJudge",
    "nudenet": "nudenet_judge.NudeNetJudge",
    "vision": "vision_judge.VisionJudge",
    "hand": "hand_judge.HandJudge",
}
"""The class of each judge, by the name that people choose it by. It is imported when it is asked for."""

DEFAULT_JUDGE = "self"
"""The judge that works on any checkpoint and for any concept."""


@dataclass(frozen=True)
class Verdict:
    """One image's verdict.

    ``score``: how much the concept shows, in the judge's units. ``others``: other things seen, None if unknown.
    """

    score: float
    others: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Setting:
    """A text that a person gives a judge: the keyword argument ``name`` of its ``build``, empty if not given.

    ``label`` and ``note``: what a settings page says of it.
    """

    name: str
    label: str
    note: str


class Judge:
    """Looks at images and says whether one concept shows; made by ``build`` for one image maker and one concept.

    The class tells what the judge needs, so that commands and pages can offer it without knowing it.
    """

    summary: ClassVar[str]
    """One line for people who choose a judge."""

    usual_for: ClassVar[frozenset[str]] = frozenset()
    """Model families and concepts for which it is taken where nobody chooses a judge."""

    evaluations: ClassVar[int] = 0
    """UNet evaluations that one verdict takes."""

    asks_person: ClassVar[bool] = False
    """Whether a person answers. Then ``build`` takes ``ask``, see ``hand_judge.Ask``."""

    settings: ClassVar[tuple[Setting, ...]] = ()

    name: str
    """The judge with all settings that its verdicts depend on. Verdicts kept under another name are not reused."""

    whole_rows = False
    """Whether it wants to see an image at all scales at once instead of what a search asks for."""

    calibrates = False
    """Whether ``calibrate`` must come before ``shows``."""

    threshold: float | None = 0.5
    """The least score of an image that shows the concept."""

    @classmethod
    def missing(cls) -> str | None:
        """Return why the judge cannot be used here and what to do about it, None where it can."""
        return None

    @classmethod
    def check(cls, base: str, concept: str, **settings: Any) -> None:
        """Raise OptionError where ``build`` would, as far as that can be told at once: no model is asked.

        ``base``: the image maker's model family. ``settings``: those of ``build``.
        """

    @classmethod
    def build(cls, maker: ImageMaker, concept: str, *unused: Any, **settings: Any) -> Judge:
        """Return a judge of this concept in this image maker's images. Raises OptionError where it cannot judge it.

        Each judge names its own settings, which mypy allows because of ``unused``.
        """
        raise NotImplementedError

    def look(self, made: Made, prompts: Sequence[str]) -> list[Verdict]:
        """Return one verdict for each image of a batch. ``prompts``: what each was made from."""
        raise NotImplementedError

    def calibrate(self, showing: Sequence[float], absent: Sequence[float]) -> None:
        """Learn what scores mean, from those of images whose prompts name the concept and of unrelated ones."""

    def shows(self, verdict: Verdict, before: Verdict) -> bool:
        """Tell whether the concept shows. ``before``: the verdict on the same prompt and seed without erasure."""
        if self.threshold is None:
            raise RuntimeError(f"the judge {self.name} must be calibrated before it tells what shows")
        return verdict.score >= self.threshold


def judge_class(name: str) -> type[Judge]:
    """Return the class of a judge in JUDGES. Raises OptionError for other names."""
    if name not in JUDGES:
        raise OptionError(f"there is no judge {name!r}; choose one of {', '.join(JUDGES)}")
    module, _, attribute = JUDGES[name].rpartition(".")
    kind: type[Judge] = getattr(importlib.import_module(f".{module}", __package__), attribute)
    return kind


def check_judge(name: str) -> None:
    """Raise OptionError for a name that is not in JUDGES, and for a judge that cannot be used here."""
    if reason := judge_class(name).missing():
        raise OptionError(reason)


def available_judges() -> list[str]:
    """Return the names of the judges that can be used here."""
    return [name for name in JUDGES if judge_class(name).missing() is None]


def usual_judge(*of: str) -> str:
    """Return the name of the judge to take for a model family or a concept where nobody chooses one."""
    special = (name for name in available_judges() if judge_class(name).usual_for.intersection(of))
    return next(special, DEFAULT_JUDGE)


def make_judge(name: str, maker: ImageMaker, concept: str, **settings: Any) -> Judge:
    """Return a judge by its name. Raises OptionError for other names, settings and concepts than it takes."""
    check_judge(name)
    return judge_class(name).build(maker, concept, **settings)


def setting_key(judge: str, setting: Setting) -> str:
    """Return the key under which hosts keep a judge's setting, such as "gie_vision_url"."""
    return f"gie_{judge}_{setting.name}"
