"""Labels in rounds: doubtful prompts first, then some of the others, until an adapter gets no better by them."""

from __future__ import annotations

import dataclasses
import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import chain, zip_longest

from lib_gie.core.scales.adapter import Adapter

from .fitting import PromptInputs, Recipe, fit_labels, validation_error
from .labels import Label, Labelling, OnBatch, Sample
from .presumption import Presumption

ROUND = 24
"""Samples of a round."""

_FALLS = 0.95
"""The validation error has fallen where it is less than this share of what it was."""

_EPOCHS = 0.25  # of the recipe's, for the adapters that are fitted between rounds


def _place(sample: Sample) -> bytes:
    """Return what orders samples as if they were drawn, always in the same way."""
    return hashlib.sha256(f"{sample.prompt} {sample.seed}".encode()).digest()


def in_order(samples: Sequence[Sample], presumption: Presumption, first: Sequence[Sample] = ()) -> list[Sample]:
    """Return the samples that can be labelled, in the order of rounds: the doubtful ones, then the others.

    Of the others one image of each prompt comes first. Prompts that name the concept and prompts that imply it take
    turns. ``first``: samples of which there are images already.
    """
    different = [sample for sample in dict.fromkeys(samples) if sample.kind != "unrelated"]
    doubtful = [sample for sample in different if not presumption.is_sure(sample)]
    images: Counter[str] = Counter()
    sure: dict[str, list[tuple[bool, int, bytes, Sample]]] = {"explicit": [], "implicit": []}
    for sample in different:
        if presumption.is_sure(sample):
            sure[sample.kind].append((sample not in first, images[sample.prompt], _place(sample), sample))
            images[sample.prompt] += 1
    kinds = [[entry[-1] for entry in sorted(part, key=lambda entry: entry[:-1])] for part in sure.values()]
    return doubtful + [sample for sample in chain(*zip_longest(*kinds)) if sample is not None]


class Rounds:
    """The rounds of one concept. After each an adapter is fitted to what is known.

    It ends where that adapter's error on the validation prompts is no less than that of the adapter before. The first
    one is fitted to what the calibration says alone. ``share``, ``gather``: divide a round among processes, and bring
    the labels together.
    """

    def __init__(
        self,
        labelling: Labelling,
        presumption: Presumption,
        inputs: PromptInputs,
        recipe: Recipe,
        share: Callable[[list[Sample]], list[Sample]] = lambda samples: samples,
        gather: Callable[[list[Label]], list[Label]] = lambda labels: labels,
    ):
        self.labelling, self.presumption, self.inputs = labelling, presumption, inputs
        self._recipe = dataclasses.replace(recipe, epochs=max(1, round(recipe.epochs * _EPOCHS)))
        self._share, self._gather = share, gather
        self.order = in_order(list(labelling.searches), presumption, labelling.looked_at)
        self.begun = 0
        """Samples of the rounds that have begun."""

    def run(
        self,
        should_stop: Callable[[], bool] = lambda: False,
        on_batch: OnBatch | None = None,
        on_round: Callable[[int], None] = lambda number: None,
    ) -> list[Label]:
        """Label until it no longer helps, or ``should_stop``. Return all labels, those that are presumed included.

        ``on_round``: is told the number of each round, from 1 on, when it begins. A doubtful prompt that was not
        labelled has none.
        """
        labelled: list[Label] = []
        before = self._fitted(labelled)
        for number, start in enumerate(range(0, len(self.order), ROUND), 1):
            chunk = self.order[start : start + ROUND]
            self.begun = start + len(chunk)
            on_round(number)
            labelled += self._gather(self.labelling.run(should_stop, on_batch, self._share(chunk)))
            if should_stop():
                break
            after = self._fitted(labelled)
            if not self._is_better(after, before, labelled):
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

    def _fitted(self, labelled: Sequence[Label]) -> Adapter:
        concept = self.labelling.concept
        labels = {concept: self._with_presumed(labelled)}
        return fit_labels(self.inputs, labels, self._recipe, {concept: self.presumption}).adapter

    def _is_better(self, after: Adapter, before: Adapter, labelled: Sequence[Label]) -> bool:
        """Tell whether an adapter has a lower error than the one before, by the labels that are known now."""
        labels = self._with_presumed(labelled)
        examples = self.inputs.examples(self.labelling.concept, labels, self._recipe, self.presumption)
        errors = [validation_error(adapter, examples, self._recipe) for adapter in (after, before)]
        return errors[0] < _FALLS * errors[1]
