"""Clocks that time the steps of a generation: the processor's, and a GPU's by its events."""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import pairwise
from typing import Any, Protocol

import torch


class Clock(Protocol):
    """Times the steps of one generation after another."""

    def start(self) -> None:
        """Begin a generation."""
        ...

    def tick(self) -> None:
        """End a step."""
        ...

    def stop(self) -> list[float]:
        """End the generation and return the seconds of each step."""
        ...


class HostClock:
    """Times steps by the processor's clock."""

    def __init__(self) -> None:
        self._marks: list[float] = []

    def start(self) -> None:
        """See Clock."""
        self._marks = [time.perf_counter()]

    def tick(self) -> None:
        """See Clock."""
        self._marks.append(time.perf_counter())

    def stop(self) -> list[float]:
        """See Clock."""
        return [end - start for start, end in pairwise(self._marks)]


class EventClock:
    """Times steps by events that the device notes between its kernels, and waits for it at the generation's end alone.

    ``record``: notes an event of the type that ``torch.cuda.Event`` is. ``wait``: waits until the device is done.
    """

    def __init__(self, record: Callable[[], Any], wait: Callable[[], None]):
        self._record, self._wait = record, wait
        self._events: list[Any] = []

    def start(self) -> None:
        """See Clock."""
        self._wait()
        self._events = [self._record()]

    def tick(self) -> None:
        """See Clock."""
        self._events.append(self._record())

    def stop(self) -> list[float]:
        """See Clock."""
        self._wait()
        return [start.elapsed_time(end) / 1000 for start, end in pairwise(self._events)]  # told in ms


def clock_of(device: torch.device) -> Clock:
    """Return the clock for a device."""
    if device.type != "cuda":
        return HostClock()

    def record() -> Any:
        event = torch.cuda.Event(enable_timing=True)
        event.record(torch.cuda.current_stream(device))
        return event

    return EventClock(record, lambda: torch.cuda.synchronize(device))
