"""How strongly a concept is suppressed: rules that give w, one number per image and concept token."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

from lib_gie.core.recorder import Reading
from lib_gie.errors import OptionError
from lib_gie.options import BY_NAME, LOWEST_SCALE

from .adapter import Adapter
from .calibrated import CALIBRATED
from .fitted import Fitted, kind_name

MOST_EMPHASIS = 5.0
"""The most emphasis up to which the demo model erases (docs/ADAPTERS.md); beyond, it draws nothing recognisable."""

_MOST_LAYERS = 4
"""The most layers apart by which a fixed scale grows: where fewer are used, little of the text is left."""

NAMED = "the prompt names the concept"
OUTSIDE = "no prompt that it was fitted on is like this one"
MISREAD = (
    "the prompt had to be read otherwise than in the fit: at another size, as a longer one, or with pictures beside "
    "the text"
)


@dataclass(frozen=True)
class PromptFacts:
    """The facts that a host knows of a row's prompt beside its states.

    ``named``: folded texts of the concepts (``Concept.key``) whose own words are in it; None: not known, which counts
    as all of them. ``emphasis``: the largest in it, as its text says; 1: none. ``unlike``: what makes it, or the model
    that reads it, unlike the plain prompts that calibrations are made from; "": nothing. ``factor``: what w is
    multiplied by in this row, as the host says; 1 or more.
    """

    named: frozenset[str] | None = None
    emphasis: float = 1.0
    unlike: str = ""
    factor: float = 1.0

    def names(self, key: str) -> bool:
        """Tell whether a concept, by its folded text, is named, or may be."""
        return self.named is None or key in self.named


UNKNOWN_PROMPT = PromptFacts(unlike="nothing is known of the prompt")


def emphasis_factor(emphasis: float, power: float) -> float:
    """Return what w is multiplied by for the largest emphasis of a prompt: at least 1, also for a weak one.

    ``power``: see ``ErasingRule.emphasis_power``.
    """
    return float(max(1.0, emphasis) ** power)


@dataclass(frozen=True)
class Replacement:
    """A fixed ``scale`` that took the place of the weaker answer of a ``kind`` of rule. ``reason``: why it did."""

    scale: float
    kind: str
    reason: str

    def __str__(self) -> str:
        """Return what users are told of it."""
        return f"the fixed scale {self.scale:g} took the place of the {self.kind}'s weaker answer: {self.reason}"


class ScaleRule(Protocol):
    """Gives w for the rows of a batch."""

    @property
    def readings(self) -> Sequence[Reading]:
        """The readings that ``scales`` needs, each half a UNet evaluation per image; it may need none."""
        ...

    @property
    def optional(self) -> Collection[Reading]:
        """Those of ``readings`` that it can do without: their inputs are NaN where they say less than they should."""
        ...

    def scales(self, inputs: torch.Tensor | None, rows: int, tokens: int) -> torch.Tensor:
        """Return w, float32 [rows, tokens]. ``inputs``: what was read, float32 [rows, inputs, tokens], or None."""
        ...

    def check_model(self, family: str, heads: Sequence[int]) -> None:
        """Raise AdapterError where the rule does not fit a model: its family, heads of each cross-attention layer."""
        ...


class FixedScale:
    """The same w for every image and token."""

    readings: Sequence[Reading] = ()
    optional: Collection[Reading] = ()

    def __init__(self, value: float):
        self.value: float = BY_NAME["scale"].check(value)

    def scales(self, inputs: torch.Tensor | None, rows: int, tokens: int) -> torch.Tensor:
        """Return w, float32 [rows, tokens]."""
        return torch.full((rows, tokens), self.value)

    def check_model(self, family: str, heads: Sequence[int]) -> None:
        """Accept every UNet."""

    def __repr__(self) -> str:
        return f"FixedScale({self.value:g})"


class GivenScales:
    """A w for every image of one generation, in their order: for labelling and experiments.

    ``values``: float32 [images]. Use it for one generation only.
    """

    readings: Sequence[Reading] = ()
    optional: Collection[Reading] = ()

    def __init__(self, values: torch.Tensor):
        low, high = float(values.min()), float(values.max())
        if not LOWEST_SCALE <= low <= high <= 0:  # NaN fails too
            raise OptionError(f"the scales are {low:g} to {high:g}; they must be from {LOWEST_SCALE:g} to 0")
        self.values = values.float()
        self._used = 0

    def scales(self, inputs: torch.Tensor | None, rows: int, tokens: int) -> torch.Tensor:
        """Return the next images' w, float32 [rows, tokens]."""
        given = self.values[self._used : self._used + rows]  # [rows]
        if len(given) != rows:
            raise OptionError(
                f"{len(self.values)} scales were given, and there are more images; give one for each image"
            )
        self._used += rows
        return given[:, None].expand(rows, tokens)  # [rows, n]

    def check_model(self, family: str, heads: Sequence[int]) -> None:
        """Accept every UNet."""


def guarded(fitted: Fitted, usual: float, plain_only: bool = False) -> Guarded:
    """Return the rule that an adapter or a calibration is used by.

    ``usual``: the fixed scale of the model family, which stands behind an adapter. Behind a calibration its strength
    does. ``plain_only``: a calibration counts for plain prompts alone; for others the stronger of both scales does. An
    adapter is cautious then.
    """
    if isinstance(fitted, Adapter):
        return Guarded(fitted.cautiously() if plain_only else fitted, usual)
    strength = fitted.info.label_range[0]
    return Guarded(fitted, strength, min(strength, usual) if plain_only else None)


class Guarded:
    """A rule that takes an adapter's answer where the adapter can know, else the stronger of it and a fixed scale.

    The adapter cannot know where a prompt names the concept (the concept is wanted then, also beside other
    things), where its inputs are unlike those of all prompts that it was fitted on, and where they had to be read at
    another size. With a calibration it is the same; its fixed scale is the strength that was found.

    What an admin enforces is stricter: there a calibration counts for plain prompts alone (``PromptFacts.unlike``),
    because who writes the prompts may look for a way round it.
    """

    def __init__(self, adapter: Fitted, fixed: float, unlike: float | None = None):
        """Keep them. ``fixed``: from LOWEST_SCALE to 0. Raises OptionError for others.

        ``unlike``: the scale where the adapter cannot know, if only plain prompts count; None: that is ``fixed``.
        """
        self.adapter, self.fixed = adapter, FixedScale(fixed).value
        self.unlike = None if unlike is None else FixedScale(unlike).value

    @property
    def is_strict(self) -> bool:
        """Tell whether the adapter's answer counts for plain prompts alone."""
        return self.unlike is not None

    @property
    def unknown(self) -> float:
        """The scale where nothing is known of how present the concept is."""
        return self.fixed if self.unlike is None else self.unlike

    @property
    def readings(self) -> Sequence[Reading]:
        """The adapter's readings."""
        return self.adapter.readings

    @property
    def optional(self) -> Collection[Reading]:
        """Those of them that the adapter can do without."""
        return self.adapter.optional

    def at_clip_skip(self, layers: int | None) -> Guarded:
        """Return the rule for prompts encoded at this clip skip, as the WebUI counts it (1: all layers; None: unknown).

        Its fixed scale is twice as strong for each layer between this and the clip skip that the adapter was fitted
        at: the less of the text encoder is used, the weaker is what is taken away. Measured on the demo model, where
        emphasised words are left at clip skip 3 unless w is four times as strong.
        """
        fitted = self.adapter.info.conditions.get("clip_skip")
        if fitted is None or layers is None or fitted == layers:
            return self
        factor = 2 ** min(abs(layers - fitted), _MOST_LAYERS)

        def grown(scale: float) -> float:
            return max(LOWEST_SCALE, scale * factor)

        return Guarded(self.adapter, grown(self.fixed), None if self.unlike is None else grown(self.unlike))

    def scales(self, inputs: torch.Tensor | None, rows: int, tokens: int) -> torch.Tensor:
        """Return the adapter's answer: w, float32 [rows, tokens]."""
        return self.adapter.scales(inputs, rows, tokens)

    def doubts(
        self, inputs: torch.Tensor, named: Sequence[bool], misread: bool, unlike: Sequence[str] = ()
    ) -> list[str]:
        """Say for each row why the adapter's answer is not enough, "" where it is.

        ``inputs``: what it reads, float32 [rows, inputs, n]. ``named``: for each row whether the prompt names the
        concept. ``misread``: whether they were read at another size than the adapter was fitted at. ``unlike``: by row,
        see ``PromptFacts``; () for plain prompts.
        """
        outside = self.adapter.is_outside(inputs).tolist()
        rows = zip(named, outside, unlike or [""] * len(outside), strict=True)
        return [
            self._doubt(names, OUTSIDE if strange else MISREAD if misread else "", odd) for names, strange, odd in rows
        ]

    def _doubt(self, names: bool, unread: str, unlike: str) -> str:
        """Return the doubt that asks for the strongest scale."""
        if self.is_strict:
            return unlike or unread or (NAMED if names else "")
        return NAMED if names else unread

    def behind(self, doubt: str) -> float:
        """Return the scale that a doubt puts in the place of a weaker answer."""
        return self.fixed if doubt == NAMED else self.unknown

    def replacement(self, doubt: str) -> Replacement | None:
        """Return what is told of a doubt, None for nothing: a calibration counts on the prompt's own words."""
        if self.adapter.kind == CALIBRATED and doubt == NAMED:
            return None
        return Replacement(self.behind(doubt), kind_name(self.adapter), doubt)

    def check_model(self, family: str, heads: Sequence[int]) -> None:
        """Raise AdapterError where the adapter does not fit a model."""
        self.adapter.check_model(family, heads)
