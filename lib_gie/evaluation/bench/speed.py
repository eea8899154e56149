"""The time of erasure, side by side with the model alone and with other ways.

One generation without its text encoder and VAE is measured: ``steps`` denoising steps with guidance. Steps are compared
pair by pair with the model's own of the same round. The first step also holds the work that is done once per generation
(K*, U, the adapter's reading). So it is kept apart, and its excess over the model's first step is told in steps.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from tqdm import tqdm

from lib_gie.errors import GieError

from .kernels import Kernels, counting
from .sampler import Sampler
from .variants import Variant

Times = dict[str, list[list[float]]]
"""The seconds of every step, by variant and round."""


COLD = {"cuda": 1}
"""By type of device: whole generations of each variant that do not count, in which the device gets warm."""


class MeasuringError(GieError):
    """Something could not be measured."""


@dataclass(frozen=True)
class Runs:
    """What was measured of each variant: its times, and what its last step asked of the device."""

    times: Times
    kernels: dict[str, Kernels]


def alternate(sampler: Sampler, variants: dict[str, Variant], rounds: int, label: str) -> Runs:
    """Run every variant in every round, A B C A B C ..., after one short generation each in which kernels are counted.

    Whole generations that do not count come next, see COLD. Raises MeasuringError where a variant needs more memory
    than a GPU has.
    """
    setting = sampler.setting
    times: Times = {name: [] for name in variants}
    sampler.use(replace(setting, steps=2))
    kernels = {name: _counted(sampler, name, variant)[-1] for name, variant in variants.items()}
    sampler.use(setting)
    cold = COLD.get(sampler.device.type, 0)
    with tqdm(total=(cold + rounds) * len(variants), desc=label, mininterval=5) as bar:
        for number in range(cold + rounds):
            for name, variant in variants.items():
                with enough_memory(name):
                    variant(sampler)
                if number >= cold:
                    times[name].append(sampler.seconds)
                bar.update()
    return Runs(times, kernels)


def _counted(sampler: Sampler, name: str, variant: Variant) -> list[Kernels]:
    with enough_memory(name):
        return count_steps(sampler, variant)


def count_steps(sampler: Sampler, variant: Variant) -> list[Kernels]:
    """Run a generation and return what each step's prediction asked of the device; the scheduler is left out."""
    found = []
    with counting(sampler.device.type) as counter:

        @contextmanager
        def around() -> Iterator[None]:
            before = counter.found
            yield
            found.append(counter.found - before)

        with sampler.watched(around):
            variant(sampler)
    return found


@contextmanager
def enough_memory(name: str) -> Iterator[None]:
    """Raise MeasuringError where a GPU's memory is not enough for a variant within the context."""
    try:
        yield
    except torch.cuda.OutOfMemoryError as error:
        raise MeasuringError(
            f"the GPU has too little memory for {name!r}; leave it out by --variants, or use fewer --pixels or a "
            f"smaller --batch"
        ) from error


@dataclass(frozen=True)
class Ratio:
    """A variant's time per step over the model's own: median, least and greatest of the pairs.

    ``once``: the excess of its first step, in steps of the model alone (median over the rounds).
    """

    median: float
    least: float
    greatest: float
    once: float

    def of_generation(self, steps: int) -> float:
        """Return the time of a generation of this many steps over the model's own."""
        return self.median + self.once / steps


def ratios(times: Times, base: str = "stock") -> dict[str, Ratio]:
    """Compare each step of each variant with the same step of the model alone in the same round."""
    found = {}
    for name, own in times.items():
        rounds = list(zip(own, times[base], strict=True))
        pairs = [a / b for mine, bare in rounds for a, b in zip(mine[1:], bare[1:], strict=True)]
        middle = statistics.median(pairs)
        once = statistics.median(mine[0] / statistics.median(bare[1:]) for mine, bare in rounds)
        alone = statistics.median(bare[0] / statistics.median(bare[1:]) for _, bare in rounds)
        found[name] = Ratio(middle, min(pairs), max(pairs), once - alone - (middle - 1))
    return found
