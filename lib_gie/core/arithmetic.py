"""Chooses how a layer's term is computed: in few operations, or with little work.

On a GPU each operation is a kernel, and in half precision a UNet's step is a stream of small ones: what counts there is
how many there are. A processor has to do all the work by itself: there the way with fewer multiplications is faster,
though it takes more operations.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

_forced: list[object] = []
"""Has an entry while a context ``few_kernels`` is open."""


def takes_few_kernels(device: torch.device) -> bool:
    """Tell whether terms are computed in few operations on this device."""
    return device.type == "cuda" or bool(_forced)


@contextmanager
def few_kernels() -> Iterator[None]:
    """Have terms computed in few operations on every device: for tests, and to count them."""
    token = object()
    _forced.append(token)
    try:
        yield
    finally:
        _forced.remove(token)
