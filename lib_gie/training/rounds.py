"""Labels in rounds: all doubtful prompts first, then some of the others, until an adapter gets no better by them."""

from __future__ import annotations

import dataclasses
import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import chain, zip_longest
from typing import Any

from lib_gie.core.scales.adapter import Adapter
from lib_gie.errors import OptionError

from .fitting import PromptInputs, Recipe, fit_labels, validation_error
from .labels import Label, Labelling, OnBatch, Sample
from .presumption import Presumption

Gather = Callable[[list[Any]], list[Any]]

ROUND = 24
"""Samples of a round."""

_FALLS = 0.95
"""The validation error has fallen where it is less than this share of what it was."""

_EPOCHS = 0.25  # of the recipe's, for the adapters that are fitted between rounds


def _place(sample: Sample) -> bytes:
    """Return what orders samples as if they were drawn, always in the same way."""
    return hashlib.sha256(f"{sample.prompt} {sample.seed}".encode()).digest()


def _numbers(samples: Sequence[Sample]) -> dict[Sample, int]:
    """Return for each sample how many of its prompt's come before it."""
    images: Counter[str] = Counter()
    found = {}
    for sample in samples:
        found[sample] = images[sample.prompt]
        images[sample.prompt] += 1
    return found


def in_order(samples: Sequence[Sample], presumption: Presumption, first: Sequence[Sample] = ()) -> list[Sample]:
    """Return the samples that can be labelled, in the order of rounds: the doubtful ones, then the others.

    One image of each prompt comes first. Of the others prompts that name the concept and prompts that imply it take
    turns. ``first``: samples of which there are images already.
    """
    different = [sample for sample in dict.fromkeys(samples) if sample.kind != "unrelated"]
    number = _numbers(different)
    doubtful = [sample for sample in different if not presumption.is_sure(sample)]
    sure = [sample for sample in different if presumption.is_sure(sample)]
    doubtful.sort(key=lambda sample: number[sample])
    sure.sort(key=lambda sample: (sample not in first, number[sample], _place(sample)))
    kinds = [[sample for sample in sure if sample.kind == kind] for kind in ("explicit", "implicit")]
    return doubtful + [sample for sample in chain(*zip_longest(*kinds)) if sample is not None]


class Rounds:
    """The rounds of one concept.

    In the first ones an image of every doubtful prompt is labelled. From then on an adapter is fitted after each round,
    and where its error on the validation prompts is no less than that of the adapter before, the round was the last.
    ``share``, ``gather``: divide a round among processes, and bring what each of them has together, in all of them.
    """

    def __init__(
        self,
        labelling: Labelling,
        presumption: Presumption,
        inputs: PromptInputs,
        recipe: Recipe,
        share: Callable[[list[Sample]], list[Sample]] = lambda samples: samples,
        gather: Gather = lambda found: found,
    ):
        self.labelling, self.presumption, self.inputs = labelling, presumption, inputs
        self._recipe = dataclasses.replace(recipe, epochs=max(1, round(recipe.epochs * _EPOCHS)))
        self._share, self._gather = share, gather
        self.order = in_order(list(labelling.searches), presumption, labelling.looked_at)
        doubtful = {sample.prompt for sample in self.order if not presumption.is_sure(sample)}
        self._needed = max(ROUND, len(doubtful))
        self.begun = 0
        """Samples of the rounds that have begun."""

    def run(
        self,
        should_stop: Callable[[], bool] = lambda: False,
        on_batch: OnBatch | None = None,
        on_round: Callable[[int], None] = lambda number: None,
    ) -> list[Label]:
        """Label until it no longer helps, or ``should_stop``. Return all labels, those that are presumed included.

        ``on_round``: is told the number of each round, from 1 on, when it begins.
        """
        labelled: list[Label] = []
        before: Adapter | None = None
        for number, start in enumerate(range(0, len(self.order), ROUND), 1):
            chunk = self.order[start : start + ROUND]
            self.begun = start + len(chunk)
            if start < self._needed <= self.begun:
                before = self._fitted(self._with_presumed(labelled))
            on_round(number)
            labelled += self._gather(self.labelling.run(should_stop, on_batch, self._share(chunk)))
            if should_stop():
                break
            if self.begun < self._needed:
                continue
            labels = self._with_presumed(labelled)
            after = self._fitted(labels)
            if not self._gather([self._is_better(after, before, labels)])[0]:  # one process decides for all
                break
            before = after
        return self._with_presumed(labelled)

    def _with_presumed(self, labelled: Sequence[Label]) -> list[Label]:
        known = {label.sample.prompt for label in labelled}
        others = {
            sample.prompt: self.presumption.label(sample)
            for sample in self.order
            if sample.prompt not in known and self.presumption.is_sure(sample)
        }
        return [*labelled, *others.values(), *self.labelling.of_unrelated()]

    def _fitted(self, labels: Sequence[Label]) -> Adapter | None:
        """Return an adapter that is fitted to what is known; None where that is too little."""
        concept = self.labelling.concept
        with suppress(OptionError):
            known = {concept: labels}, self._recipe, {concept: self.presumption}
            return fit_labels(self.inputs, *known, with_narrow=False).adapter
        return None

    def _is_better(self, after: Adapter | None, before: Adapter | None, labels: Sequence[Label]) -> bool:
        """Tell whether an adapter has a lower error than the one before, by the labels that are known now."""
        if after is None or before is None:
            return True
        examples = self.inputs.examples(self.labelling.concept, labels, self._recipe, self.presumption)
        errors = [validation_error(adapter, examples, self._recipe) for adapter in (after, before)]
        return errors[0] < _FALLS * errors[1]
