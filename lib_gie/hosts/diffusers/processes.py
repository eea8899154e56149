"""Work shared among the processes of ``accelerate launch -m lib_gie ...``; with one process nothing changes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, TypeVar

import torch

T = TypeVar("T")


def _state() -> Any | None:
    """Return accelerate's state where its launcher has started several processes."""
    if int(os.environ.get("WORLD_SIZE", "1")) < 2:
        return None
    from accelerate import PartialState

    # without this it makes every process on a machine without GPUs think that it is alone
    return PartialState(cpu=not torch.cuda.is_available())


def rank() -> int:
    """Return the number of this process."""
    state = _state()
    return 0 if state is None else state.process_index


def count() -> int:
    """Return how many processes share the work."""
    state = _state()
    return 1 if state is None else int(state.num_processes)


def is_first() -> bool:
    """Tell whether this process is the one that prints and writes results."""
    return rank() == 0


def device() -> torch.device:
    """Return where this process computes: its own GPU, or the CPU."""
    state = _state()
    return torch.device("cuda" if torch.cuda.is_available() else "cpu") if state is None else state.device


def share(items: Sequence[T]) -> list[T]:
    """Return this process's part of the items: every n-th one, so that all get some of each kind."""
    state = _state()
    return list(items) if state is None else list(items[state.process_index :: state.num_processes])


def gather(items: list[T]) -> list[T]:
    """Return the items of all processes, in every one of them."""
    if _state() is None:
        return items
    from accelerate.utils import gather_object

    gathered: list[T] = gather_object(items)
    return gathered
