"""How strongly, when and by which pass concepts are erased."""

from __future__ import annotations

from dataclasses import dataclass

from .checks import number_from
from .errors import OptionError

CONCEPT_PASSES = ("fused", "separate")
MAX_STRENGTH = 3.0


@dataclass(frozen=True)
class ErasureSettings:
    """The settings of one erasure. Raises OptionError for values out of range.

    ``strength``: multiplies every scale, 0 to 3.
    ``start``, ``end``: fractions of the sampling between which something is erased.
    ``concept_pass``: "fused" takes M* from the prompt's own pass, as the authors' code does; "separate" from a UNet
    pass under the concept (Algorithm 1 of the paper), which costs one conditional pass per concept and step.
    ``padding``: 0 to 1. Beyond the paper: EOS and padding of the concept's text are inhibited, too, at this share of
    the scale of its own tokens. It is meant for models whose text encoder gathers a text's meaning there.
    """

    strength: float = 1.0
    start: float = 0.0
    end: float = 1.0
    concept_pass: str = "fused"
    padding: float = 0.0

    def __post_init__(self) -> None:
        for name, high in (("strength", MAX_STRENGTH), ("start", 1.0), ("end", 1.0), ("padding", 1.0)):
            object.__setattr__(self, name, number_from(name, getattr(self, name), 0.0, high))
        if self.start >= self.end:
            raise OptionError(f"start is {self.start:g} and end is {self.end:g}; start must be below end")
        if self.concept_pass not in CONCEPT_PASSES:
            raise OptionError(f"concept pass is {self.concept_pass!r}; it must be one of {', '.join(CONCEPT_PASSES)}")

    def includes(self, progress: float) -> bool:
        """Tell whether something is erased at this fraction of the sampling; an end of 1 includes the last step."""
        return self.start <= progress and (progress < self.end or self.end == 1.0)
