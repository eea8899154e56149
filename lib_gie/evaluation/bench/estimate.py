"""What erasure adds to a step on a GPU, counted without one: an estimate of its cost, not a measurement.

The UNets are on torch's device "meta": nothing is computed, and every operator is seen. Each of both arithmetics of a
layer's term (see ``core.arithmetic``) is counted. Where starting kernels is what limits a step, its time grows as their
number does; where computing is, as the multiply-adds do. Real steps lie between, or above where memory limits.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import torch

from lib_gie.core.arithmetic import few_kernels
from lib_gie.core.layers import find_cross_attention
from lib_gie.evaluation.figures import table

from .kernels import Kernels
from .sampler import Sampler, Setting
from .speed import count_steps
from .variants import growth_inhibitors, stock

CONCEPTS = (1, 3, 8)


@dataclass(frozen=True)
class Estimate:
    """What one step asks of a device, and what the first one asks more: ``once``.

    ``layers``: cross-attention layers. ``stock``: of the model alone. ``least_work``, ``few_kernels``: with erasure, by
    the arithmetic that the CPU takes and by a GPU's. ``once``: with the latter, beside the model's first step.
    """

    size: str
    pixels: int
    batch: int
    layers: int
    concepts: int
    stock: Kernels
    least_work: Kernels
    few_kernels: Kernels
    once: Kernels


def estimates(size: str, pixels: int, batch: int, concepts: Sequence[int] = CONCEPTS) -> list[Estimate]:
    """Count for these numbers of concepts. ``batch``: images at once."""
    sampler = Sampler(Setting(size, pixels, batch, steps=2), torch.device("meta"))
    layers = len(find_cross_attention(sampler.unet))
    first, bare = count_steps(sampler, stock)
    found = []
    for count in concepts:
        _, least = _steps(sampler, count, few=False)
        start, few = _steps(sampler, count, few=True)
        once = start - few - (first - bare)
        found.append(Estimate(size, pixels, batch, layers, count, bare, least, few, once))
    return found


def _steps(sampler: Sampler, concepts: int, few: bool) -> list[Kernels]:
    with few_kernels() if few else nullcontext():
        return count_steps(sampler, lambda it: growth_inhibitors(it, concepts))


# -- shown ------------------------------------------------


_HEADER = (
    "UNet", "concepts", "kernels of a step", "added: CPU's way", "a layer", "GPU's way", "a layer", "waits", "once",
    "multiply-adds added: CPU's way", "GPU's way", "step, where starting limits", "where computing limits",
)  # fmt: skip


def estimate_row(estimate: Estimate) -> dict:
    """Return a JSON row. Ratios are over the model's own; ``least_work``, ``few_kernels``: by either arithmetic."""
    bare, ways = estimate.stock, {"least_work": estimate.least_work, "few_kernels": estimate.few_kernels}
    row: dict = {
        "size": estimate.size, "pixels": estimate.pixels, "batch": estimate.batch, "layers": estimate.layers,
        "concepts": estimate.concepts, "kernels": bare.kernels, "waits": bare.waits,
        "multiply_adds": bare.multiply_adds,
    }  # fmt: skip
    for name, own in ways.items():
        added = own - bare
        row[f"{name}_kernels"], row[f"{name}_waits"] = added.kernels, added.waits
        row[f"{name}_kernels_ratio"] = round(own.kernels / bare.kernels, 4)
        row[f"{name}_multiply_adds_ratio"] = round(own.multiply_adds / bare.multiply_adds, 5)
    return row | {"once_kernels": estimate.once.kernels, "once_waits": estimate.once.waits}


def estimate_table(rows: Sequence[dict]) -> str:
    """Return the rows as a Markdown table."""
    return table(_HEADER, [_cells(row) for row in rows])


def _cells(row: dict) -> tuple[str, ...]:
    images = "" if row["batch"] == 1 else f", {row['batch']} images"
    return (
        f"{row['size']}, {row['pixels']} pixels{images}",
        str(row["concepts"]),
        str(row["kernels"]),
        f"{row['least_work_kernels']:+d}",
        f"{row['least_work_kernels'] / row['layers']:.1f}",
        f"{row['few_kernels_kernels']:+d}",
        f"{row['few_kernels_kernels'] / row['layers']:.1f}",
        str(row["waits"] + row["few_kernels_waits"]),
        f"{row['once_kernels']:+d}, {row['once_waits']} waits",
        f"{row['least_work_multiply_adds_ratio'] - 1:.2%}",
        f"{row['few_kernels_multiply_adds_ratio'] - 1:.2%}",
        f"{row['few_kernels_kernels_ratio']:.3f}",
        f"{row['few_kernels_multiply_adds_ratio']:.3f}",
    )
