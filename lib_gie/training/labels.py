"""Labels: for each prompt and seed the weakest scale that erases the concept, found by search, kept on disk."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from lib_gie.errors import OptionError
from lib_gie.json_lines import KeptResults, identity_digest

from .image_maker import ImageMaker, Made
from .judges.base import Judge, Verdict
from .judges.trial import Trial
from .search import GRID, Search

CALIBRATION = 24
"""Images of each kind, at most, from which a judge learns what its scores mean."""

_UNERASED = 0.0  # the first scale of every search
_ENTRY = ("prompt", "seed", "scale", "score", "others")


@dataclass(frozen=True)
class Sample:
    """One image to label: its prompt, the seed of its noise, and how the prompt relates to the concept.

    ``kind`` is "explicit", "implicit" or "unrelated". Of an unrelated prompt no image is made: its label is 0.
    """

    prompt: str
    seed: int
    kind: str = "explicit"


OnBatch = Callable[[Made, list[tuple[Sample, float]], list[Verdict]], None]
"""Is called with every batch: images, their samples and scales, verdicts."""


@dataclass(frozen=True)
class Label:
    """The result of one sample's search.

    ``scale``: the weakest scale w at which the concept does not show, 0 where it never did. ``erased``: False where it
    shows at every scale of the grid. ``lost``: other things that are seen without erasure and not at that scale, None
    where the judge cannot tell. ``images``: how many were made for it. None were made of an unrelated prompt, nor where
    a calibration was taken at its word (see ``presumption.py``).
    """

    sample: Sample
    scale: float
    erased: bool
    lost: tuple[str, ...] | None
    images: int = 0


VerdictKey = tuple[str, int, float]
"""Prompt, seed, scale w."""


def _read_verdict(entry: Any) -> tuple[VerdictKey, Verdict] | None:
    if not isinstance(entry, dict) or not entry.keys() >= set(_ENTRY):  # a file's first line is its identity
        return None
    others = entry["others"]
    verdict = Verdict(entry["score"], None if others is None else tuple(others))
    return (entry["prompt"], entry["seed"], entry["scale"]), verdict


def _write_verdict(key: VerdictKey, verdict: Verdict) -> dict[str, Any]:
    return dict(zip(_ENTRY, (*key, verdict.score, verdict.others), strict=True))


def kept_verdicts(
    folder: Path, concept: str, maker: ImageMaker, judge: Judge, part: int = 0
) -> KeptResults[VerdictKey, Verdict]:
    """Return the verdicts that are kept in a folder. Raises OptionError where none can be kept there.

    The file's name depends on everything that the verdicts depend on. ``part``: the number of this process.
    """
    identity = json.dumps([concept, maker.base, maker.description, judge.name])
    name = f"labels-{identity_digest(identity)}"
    path = folder / f"{name}{f'.{part}' if part else ''}.jsonl"
    try:
        kept = KeptResults(path, f"{name}*.jsonl", read=_read_verdict, write=_write_verdict)
        if not path.exists():
            path.write_text(identity + "\n", encoding="utf-8")
    except OSError as error:
        raise OptionError(f"labels cannot be kept in {folder} ({error}); give another folder, or make room") from error
    return kept


def _for_calibration(samples: Sequence[Sample]) -> tuple[list[Sample], list[Sample]]:
    """Choose a few samples of prompts that name the concept (or imply it, if none names it), and of unrelated ones."""
    images: Counter[str] = Counter()
    kinds: dict[str, list[tuple[int, Sample]]] = {}
    for sample in dict.fromkeys(samples):
        kinds.setdefault(sample.kind, []).append((images[sample.prompt], sample))
        images[sample.prompt] += 1

    def chosen(kind: str) -> list[Sample]:  # one image of each prompt, then the second images
        return [sample for _, sample in sorted(kinds.get(kind, []), key=lambda entry: entry[0])[:CALIBRATION]]

    return chosen("explicit") or chosen("implicit"), chosen("unrelated")


def _pending(searches: Mapping[Sample, Search]) -> Iterator[tuple[Sample, int]]:
    for sample, search in searches.items():
        if (number := search.next_try()) is not None:
            yield sample, number


def _done(searches: Mapping[Sample, Search]) -> int:
    return sum(search.next_try() is None for search in searches.values())


class Labelling:
    """A search for every sample, in batches that mix samples and scales."""

    def __init__(
        self,
        maker: ImageMaker,
        judge: Judge,
        concept: str,
        samples: Sequence[Sample],
        folder: Path,
        *,
        search: Callable[[Sample], Search] = lambda sample: Search(GRID),
        batch: int = 24,
        part: int = 0,
    ):
        """Read what is kept, and calibrate the judge if that is enough. Raises OptionError where nothing can be kept.

        ``samples``: all that are to be labelled, the same for all processes. ``search``: makes the search for each.
        """
        self.maker, self.judge, self.concept, self.batch = maker, judge, concept, batch
        self.kept, self._calibrated = kept_verdicts(folder, concept, maker, judge, part), False
        different = dict.fromkeys(samples)
        self.unrelated = [sample for sample in different if sample.kind == "unrelated"]
        self.searches = {sample: search(sample) for sample in different if sample.kind != "unrelated"}
        self._showing, self._absent = _for_calibration(samples)
        self.trial: Trial | None = None
        """How well the judge tells images apart, once it has learned; None of a judge that learns nothing."""
        if not self._uncalibrated():
            self._calibrate()

    def _uncalibrated(self) -> list[Sample]:
        """Return the samples whose images must be made before the judge can be asked."""
        if not self.judge.calibrates:
            return []
        known = self.kept.found
        return [s for s in (*self._showing, *self._absent) if (s.prompt, s.seed, _UNERASED) not in known]

    @property
    def looked_at(self) -> list[Sample]:
        """Return the samples of which the judge wants to see images without erasure in any case."""
        return list(self._showing) if self.judge.calibrates else []

    def _calibrate(self) -> None:
        """Let the judge learn from images without erasure, then tell the searches what is known."""
        if self.judge.calibrates and self._showing:
            showing, absent = (
                [self.kept.found[sample.prompt, sample.seed, _UNERASED].score for sample in samples]
                for samples in (self._showing, self._absent)
            )
            self.judge.calibrate(showing, absent)
            self.trial = Trial(showing, absent)
        self._calibrated = True
        self._replay()

    def _tell(self, sample: Sample, number: int) -> None:
        """Pass a kept verdict on to the search, if there is one and the judge knows what it means."""
        key, search = (sample.prompt, sample.seed), self.searches[sample]
        verdict = self.kept.found.get((*key, search.grid[number]))
        if verdict is None or not self._calibrated:
            return
        before = self.kept.found[(*key, _UNERASED)]
        search.tell(number, self.judge.shows(verdict, before))

    def _replay(self) -> None:
        """Tell the searches all that is kept, also at scales that they would not have tried."""
        for sample, search in self.searches.items():
            for number in range(len(search.grid)):
                self._tell(sample, number)

    @property
    def untaught(self) -> int:
        """Return the number of images that must still be made before the judge can be asked."""
        return len(self._uncalibrated())

    def teach(self, should_stop: Callable[[], bool] = lambda: False, on_batch: OnBatch | None = None) -> None:
        """Make the images that the judge learns from, unless ``should_stop``. Labelling needs them in any case."""
        while not self._calibrated and not should_stop():
            chunk = [(sample, 0) for sample in self._uncalibrated()[: self.batch]]
            if chunk:
                self._make(chunk, on_batch)
            else:
                self._calibrate()

    @property
    def done(self) -> int:
        """Return the number of samples whose label is known."""
        return _done(self.searches)

    def run(
        self,
        should_stop: Callable[[], bool] = lambda: False,
        on_batch: OnBatch | None = None,
        only: Sequence[Sample] | None = None,
    ) -> list[Label]:
        """Make and judge images until every label is known, or ``should_stop``. Return the labels that are known.

        ``only``: label these samples; None: all of them, and return those of unrelated prompts as well.
        """
        wanted = self.searches if only is None else {sample: self.searches[sample] for sample in only}
        self.teach(should_stop, on_batch)
        told = {"desc": f"labels for {self.concept}", "unit": " labels"}
        with tqdm(total=len(wanted), initial=_done(wanted), mininterval=5, **told) as bar:
            while not should_stop() and (chunk := self._next_chunk(wanted)):
                self._make(chunk, on_batch)
                bar.update(_done(wanted) - bar.n)
        found = [self._label(sample) for sample, search in wanted.items() if search.next_try() is None]
        return found if only is not None else found + self.of_unrelated()

    def of_unrelated(self) -> list[Label]:
        """Return the labels of the unrelated prompts: no erasure."""
        return [Label(sample, 0.0, True, None) for sample in self.unrelated]

    def _next_chunk(self, wanted: Mapping[Sample, Search]) -> list[tuple[Sample, int]]:
        """Return the next images to make. Those without erasure come first: most of the searches end with them."""
        pending = sorted(_pending(wanted), key=lambda entry: entry[1] != 0)
        if pending and self.judge.whole_rows:
            sample = pending[0][0]
            return [(sample, number) for number in range(len(self.searches[sample].grid))]
        return pending[: self.batch]

    def _make(self, chunk: list[tuple[Sample, int]], on_batch: OnBatch | None) -> None:
        tried = [(sample, self._scale(sample, number)) for sample, number in chunk]
        prompts = [sample.prompt for sample, _ in tried]
        scales = torch.tensor([scale for _, scale in tried])  # [B]
        made = self.maker.make(prompts, [sample.seed for sample, _ in tried], self.concept, scales)
        verdicts = self.judge.look(made, prompts)
        for (sample, number), (_, scale), verdict in zip(chunk, tried, verdicts, strict=True):
            self.kept.add((sample.prompt, sample.seed, scale), verdict)
            if sample in self.searches:
                self._tell(sample, number)
        if on_batch is not None:
            on_batch(made, tried, verdicts)

    def _scale(self, sample: Sample, number: int) -> float:
        """Return a scale of a sample's grid; of an unrelated one, which has none, the one without erasure."""
        return self.searches[sample].grid[number] if sample in self.searches else _UNERASED

    def _label(self, sample: Sample) -> Label:
        search, key = self.searches[sample], (sample.prompt, sample.seed)
        before = self.kept.found[(*key, _UNERASED)].others
        after = self.kept.found[(*key, search.label)].others
        lost = None if before is None or after is None else tuple(name for name in before if name not in after)
        return Label(sample, search.label, search.erased, lost, len(search.shown))
