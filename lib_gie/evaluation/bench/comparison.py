"""The table in which the ways to sample stand side by side."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

from lib_gie.evaluation.figures import table

from .kernels import Kernels
from .sampler import Setting
from .speed import Runs, ratios

_MEBI = 2**20
_STEPS = 20  # a usual generation's


def rows_of(setting: Setting, runs: Runs, peaks: Mapping[str, list[int]]) -> list[dict]:
    """Return one JSON row per variant. ``peaks``: memory in bytes by variant; those that were not measured may lack."""
    found = []
    for name, ratio in ratios(runs.times).items():
        steps = [step for round_ in runs.times[name] for step in round_[1:]]
        found.append({
            "size": setting.size, "pixels": setting.pixels, "batch": setting.batch, "variant": name,
            "ratio": round(ratio.median, 4), "ratio_min": round(ratio.least, 4), "ratio_max": round(ratio.greatest, 4),
            "once": round(ratio.once, 4), "ratio_of_generation": round(ratio.of_generation(_STEPS), 4),
            "seconds_per_step": round(statistics.median(steps), 4),
            **_kernels(runs.kernels[name], runs.kernels["stock"]),
            **_memory(peaks.get(name, []), peaks.get("stock", [])),
        })  # fmt: skip
    return found


def _kernels(own: Kernels, stock: Kernels) -> dict:
    return {"kernels": own.kernels, "kernels_ratio": round(own.kernels / stock.kernels, 4), "waits": own.waits}


def _memory(own: Sequence[int], stock: Sequence[int]) -> dict:
    middle = round(statistics.median(own)) if own else None
    ratio = round(middle / statistics.median(stock), 4) if middle and stock else None
    least, greatest = min(own, default=None), max(own, default=None)
    return {"memory": middle, "memory_min": least, "memory_max": greatest, "memory_ratio": ratio}


_HEADER = (
    "variant", "step over stock's", "of all pairs", "once, in steps", f"{_STEPS} steps over stock's",
    "seconds per step", "kernels per step", "over stock's", "peak memory", "of all runs", "over stock's",
)  # fmt: skip


def comparison_table(setting: Setting, rounds: int, rows: Sequence[dict]) -> str:
    """Return a setting's rows as a Markdown table under a line that says what they are of."""
    images = "one image" if setting.batch == 1 else f"{setting.batch} images at once"
    pairs = rounds * (setting.steps - 1)
    head = f"{setting.size}, {setting.pixels}x{setting.pixels} pixels, {images}, {pairs} pairs of steps"
    return f"{head}:\n\n{table(_HEADER, [_cells(row) for row in rows])}"


def _cells(row: dict) -> tuple[str, ...]:
    is_unknown = row["memory"] is None
    return (
        row["variant"],
        f"{row['ratio']:.3f}",
        f"{row['ratio_min']:.3f} to {row['ratio_max']:.3f}",
        f"{row['once']:+.2f}",
        f"{row['ratio_of_generation']:.3f}",
        f"{row['seconds_per_step']:.3f}",
        str(row["kernels"]),
        f"{row['kernels_ratio']:.3f}",
        "-" if is_unknown else f"{row['memory'] / _MEBI:.0f} MiB",
        "-" if is_unknown else f"{row['memory_min'] / _MEBI:.0f} to {row['memory_max'] / _MEBI:.0f}",
        "-" if row["memory_ratio"] is None else f"{row['memory_ratio']:.3f}",
    )
