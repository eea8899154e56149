"""One generation's state: which concepts, how strongly, for which rows of which UNet calls."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any

import torch

from lib_gie.errors import ErasureError, OptionError
from lib_gie.options import ErasureSettings

from .composition import Composition, Trace
from .kept_answers import KeptAnswers
from .readings import AsText
from .recorder import AttentionRecorder
from .rows import Identities, Name, RowLedger
from .rules import erasing_rule
from .scales.resolved import ResolvedScales, Target
from .scales.scale_rules import PromptFacts, Replacement, ScaleRule

__all__ = ["Erasure", "Target"]


def check_adapter(rule: ScaleRule, erasing: str) -> None:
    """Raise OptionError where an adapter gives the scale of an erasing rule, by its name, that takes none."""
    if rule.readings and not erasing_rule(erasing).takes_adapters:
        raise OptionError(
            f"an adapter gives the scale, and the erasing rule is {erasing!r}: adapters are fitted on growth "
            f"inhibitors. Give a fixed scale, or take that rule"
        )


class Erasure:
    """The concepts that one generation erases, and how far it has come.

    The host announces its rows; a session (``session.attach``) does the rest.

    ``targets``: the concepts with their scale rules. ``settings``, or its fields by name: see ErasureSettings.
    ``ledger``: the rows that the host announces; erasures of the same rows share one.
    ``recorder``: collects where the concept's attention is, if given.
    ``trace``: writes down what the conditional rows are given, if given; with scale 0 that is the image without
    erasure. ``composition``: keeps to such an image's; one for each generation.
    ``answers``: what was read of prompts before, by the same model.
    ``as_text``: makes of a UNet call the one for the prompt's text alone, where a host gives pictures beside it.

    Raises OptionError without targets and for settings out of range, ErasureError where the concepts' contexts have
    different lengths.
    """

    def __init__(
        self,
        targets: Sequence[Target],
        settings: ErasureSettings | None = None,
        *,
        ledger: RowLedger | None = None,
        recorder: AttentionRecorder | None = None,
        trace: Trace | None = None,
        composition: Composition | None = None,
        answers: KeptAnswers | None = None,
        as_text: AsText | None = None,
        **options: Any,
    ):
        if not targets:
            raise OptionError("there is no concept to erase; name at least one, for example: knife")
        lengths = {len(target.encoded.states) for target in targets}
        if len(lengths) > 1:
            raise ErasureError(
                f"the concepts' contexts have lengths {' and '.join(map(str, sorted(lengths)))}; encode all with one "
                f"text encoder"
            )
        if settings is not None and options:
            raise TypeError(f"both settings and {', '.join(options)} are given; put them into the settings")
        self.targets = tuple(targets)
        self.settings = settings or ErasureSettings(**options)
        self.ledger = ledger or RowLedger()
        self.rule = erasing_rule(self.settings.rule)
        for target in targets:
            check_adapter(target.rule, self.settings.rule)
        self.resolved = ResolvedScales(targets, self.settings.strength, self.rule)
        self.recorder, self.trace, self.composition = recorder, trace, composition
        self.answers = KeptAnswers() if answers is None else answers
        self.as_text = as_text
        self._steps = 0
        self._progress = 0.0

    @property
    def scales(self) -> dict[Hashable, tuple[torch.Tensor, ...]]:
        """The resolved w by row: of each concept, float32 [n]."""
        return self.resolved.values

    @property
    def facts(self) -> dict[Hashable, PromptFacts]:
        """By row what the host knows of its prompt; the host fills it in."""
        return self.resolved.facts

    @property
    def injects(self) -> bool:
        """Tell whether the sampling is between start and end."""
        return self.settings.includes(self._progress)

    @property
    def is_paired(self) -> bool:
        """Tell whether another trajectory is written down or followed."""
        return self.trace is not None or self.composition is not None

    @property
    def in_first_tiles(self) -> bool:
        """Tell whether the first step is being made in tiles."""
        return self.ledger.is_tiled and self._steps == 1

    @property
    def follows(self) -> frozenset[str]:
        """The kinds of attention that are taken over now from the image without erasure.

        There are none in steps that inhibit nothing: that attention would bring back all that was erased.
        """
        if self.composition is None or not self.injects:
            return frozenset()
        return self.composition.kinds(self._progress)

    def begin(self, rows: Sequence[Name], progress: float, identify: Callable[[], Identities] | None = None) -> None:
        """Announce the rows of the coming UNet calls, in their order, before each denoising step.

        ``rows``: for each row, conditional ones: a name that stays the same over the steps (usually the image's
        number); unconditional ones: None. The step may be split into several UNet calls; unconditional rows
        may be left out. ``progress``: the fraction of the sampling that is done, 0 at the first step.
        ``identify``: gives, when the UNet is called, by what the rows are told apart; without it by their place.

        Raises ErasureError where conditional rows of the step before never reached the UNet, and what a UNet call
        before was refused for, if that was swallowed.
        """
        self.ledger.begin(rows, identify)
        self.begin_step(progress)

    def begin_step(self, progress: float) -> None:
        """Begin a step whose rows are announced to the ledger. ``progress``: the fraction of the sampling done."""
        self._steps += 1
        self._progress = progress
        if self.recorder is not None:
            self.recorder.begin_step()

    def invalidate(self) -> None:
        """Forget what was announced: the next UNet call raises unless ``begin`` comes first."""
        self.ledger.invalidate()

    def finish(self) -> None:
        """Check, after the last step, that every announced conditional row was seen. Raises ErasureError."""
        self.ledger.finish()

    def go_on_from(self, other: Erasure, changed: bool = True) -> None:
        """Take over what another erasure of the same concepts has found, see ``ResolvedScales.go_on_from``."""
        self.resolved.go_on_from(other.resolved, changed)

    def read_again(self) -> None:
        """Find all scales again, since the weights of the model are others now."""
        self.answers.clear()
        self.resolved.read_again()

    def replacements(self, row: Hashable) -> tuple[Replacement | None, ...]:
        """Return the fixed scales that took the place of weaker answers, see ``ResolvedScales.replacements``."""
        return self.resolved.replacements(row)
