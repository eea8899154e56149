"""What the tab is asked to train, checked, and how much work that is. Knows no host but for where adapters go."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..errors import OptionError
from ..training.judges.self_judge import EVALUATIONS
from ..training.labels import Sample
from ..training.prompts import all_unrelated, bare, parse_prompts
from ..training.search import GRID, most_tries
from .options import AUTOMATIC, FIXED


@dataclass(frozen=True)
class Order:
    """What to train. ``prompts``: a list's text (see ``training.prompts``); ``count``: prompts at most, per kind.

    ``grid``: how many of the scales in GRID are tried, the weakest first. ``batch``: images made at once.
    """

    concept: str
    name: str
    prompts: str
    judge: str
    count: int
    seeds: int
    grid: int
    sampler: str
    steps: int
    cfg: float
    width: int
    height: int
    batch: int

    @property
    def bare_concept(self) -> str:
        """The concept without weight and quotes. Raises ConceptError, OptionError where there is not exactly one."""
        return bare(self.concept)

    @property
    def scales(self) -> tuple[float, ...]:
        """0 and those that are tried."""
        return GRID[: 1 + self.grid]

    def samples(self) -> list[Sample]:
        """Every prompt with its seeds. Raises OptionError for a list without usable prompts."""
        kinds: dict[str, int] = {}
        samples = []
        for prompt, kind in parse_prompts(self.prompts, self.bare_concept):
            kinds[kind] = kinds.get(kind, 0) + 1
            if kinds[kind] <= self.count:
                samples += [Sample(prompt, seed, kind) for seed in range(1 if kind == "unrelated" else self.seeds)]
        if all_unrelated([sample.kind for sample in samples]):
            raise OptionError("the prompts are all unrelated; give some that name or imply the concept")
        if not any(sample.kind == "unrelated" for sample in samples):
            raise OptionError(
                "no prompt is unrelated to the concept; without [unrelated] ones an adapter erases everywhere"
            )
        return samples

    def path(self, folder: Path) -> Path:
        """Where the adapter goes. Raises OptionError for a name that is no plain file name or means something else."""
        name = self.name.strip() or "-".join(self.bare_concept.casefold().split())
        if not name or name != Path(name).name or name.startswith(".") or "\\" in name or name in (AUTOMATIC, FIXED):
            raise OptionError(f"the adapter's name is {name!r}; give a plain one such as my-knife")
        return folder / f"{name}.safetensors"


@dataclass(frozen=True)
class Work:
    """How much there is to do. ``images``: at most; ``evaluations``: of the UNet, those of the judge included."""

    prompts: int
    images: int
    evaluations: int

    def seconds(self, per_image: float) -> float:
        """How long it takes at most, with so many seconds per image made and judged."""
        return self.images * per_image


def amount(order: Order) -> Work:
    """An upper bound of the work that an order makes; kept labels of an earlier one save some."""
    samples = order.samples()
    searched = sum(sample.kind != "unrelated" for sample in samples)
    prompts = len({sample.prompt for sample in samples})
    rounds = len(order.scales) if order.judge == "hand" else most_tries(len(order.scales))
    images = searched * rounds
    evaluations = images * (2 * order.steps + (EVALUATIONS if order.judge == "self" else 0)) + prompts
    return Work(prompts, images, evaluations)
