"""The time of a generation, by operator."""

from __future__ import annotations

from collections.abc import Sequence

from torch.profiler import ProfilerActivity
from torch.profiler import profile as torch_profile

from .sampler import Sampler
from .variants import VARIANTS

_ROWS = 14


def _times(sampler: Sampler, name: str) -> dict[str, float]:
    """Return the time that every operator spends by itself, in ms."""
    on_gpu = sampler.device.type == "cuda"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]
    VARIANTS[name](sampler)  # the first run is slower and does not count
    with torch_profile(activities=activities) as found:
        VARIANTS[name](sampler)
    kind = "self_device_time_total" if on_gpu else "self_cpu_time_total"
    return {event.key: getattr(event, kind) / 1000 for event in found.key_averages()}


def profile(sampler: Sampler, names: Sequence[str]) -> list[dict]:
    """Return one row per operator, those with the greatest difference to the first variant first."""
    times = {name: _times(sampler, name) for name in names}
    first, last = times[names[0]], times[names[-1]]
    operators = sorted({*first, *last}, key=lambda key: -abs(last.get(key, 0) - first.get(key, 0)))[:_ROWS]
    rows = [{"operator": key, **{name: round(t.get(key, 0.0), 2) for name, t in times.items()}} for key in operators]
    total = {name: round(sum(t.values()), 2) for name, t in times.items()}
    return [*rows, {"operator": "all", **total}]
