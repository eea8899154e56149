"""The global random numbers of torch, numpy and Python: those of whoever samples, never ours."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


@contextmanager
def undrawn() -> Iterator[None]:
    """Have the global random numbers go on as if nothing had been drawn within it, on the CPU and every GPU."""
    # asking an unused GPU for its numbers would start it, which takes a second
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_initialized() else []
    python, array = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices):
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(array)
