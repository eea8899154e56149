"""The most memory that a generation takes: on the CPU by a process for each, on a GPU by torch's allocator."""

from __future__ import annotations

import ctypes
import gc
import multiprocessing
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from tqdm import tqdm

from .sampler import Sampler, Setting
from .speed import MeasuringError, enough_memory
from .variants import VARIANTS

PEAK_RUNS = 3


def _peak_on_linux() -> int | None:
    """Return the most memory, in bytes, that the process had since the figure was reset, None where it is not told."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")), None)


def _measure_peak(setting: Setting, name: str, results) -> None:
    """Measure on the CPU in a separate process. The result is in bytes, None where the system does not tell."""
    sampler = Sampler(setting, torch.device("cpu"))
    if sys.platform == "linux":
        gc.collect()
        getattr(ctypes.CDLL(None), "malloc_trim", int)(0)  # what building the model has freed would hide a step
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    VARIANTS[name](sampler)
    results.put(_peak_on_linux())


def peak_memory(setting: Setting, name: str) -> int | None:
    """Return the most memory of a process during one generation on the CPU, in bytes, model included.

    It is None where the system does not tell. Raises MeasuringError where the process that measures ends early.
    """
    context = multiprocessing.get_context("spawn")
    results = context.SimpleQueue()
    process = context.Process(target=_measure_peak, args=(setting, name, results))
    process.start()
    process.join()
    if process.exitcode != 0 or results.empty():
        raise MeasuringError(
            f"the process that measured the memory of {name!r} ended with {process.exitcode} (-9: the system had too "
            f"little memory); use --no-memory, fewer --pixels or a smaller --batch"
        )
    return results.get()


def peaks(setting: Setting, names: Sequence[str]) -> dict[str, list[int]]:
    """Return every variant's peaks of two steps in PEAK_RUNS processes, A B C A B C ..., none where unknown."""
    found: dict[str, list[int]] = {name: [] for name in names}
    for name in tqdm([*names] * PEAK_RUNS, desc="memory"):
        peak = peak_memory(replace(setting, steps=2), name)
        found[name] += [] if peak is None else [peak]
    return found


def peaks_on_gpu(sampler: Sampler, names: Sequence[str]) -> dict[str, list[int]]:
    """Return the most bytes that torch's allocator gave out in two steps of each variant, PEAK_RUNS times in turn.

    Raises MeasuringError where a variant needs more than the GPU has.
    """
    setting = sampler.setting
    sampler.use(replace(setting, steps=2))
    found: dict[str, list[int]] = {name: [] for name in names}
    for name in tqdm([*names] * PEAK_RUNS, desc="memory"):
        gc.collect()  # what the variant before has left in circles would count for this one
        torch.cuda.reset_peak_memory_stats(sampler.device)
        with enough_memory(name):
            VARIANTS[name](sampler)
        found[name].append(torch.cuda.max_memory_allocated(sampler.device))
    sampler.use(setting)
    return found
