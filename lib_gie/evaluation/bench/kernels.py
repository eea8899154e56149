"""Counts what a run asks of a device: operators that start work on it, moments at which it is waited for, products.

torch passes every operator through here before it runs, on the CPU, on a GPU and on the device "meta", where tensors
have shapes but no numbers and nothing is computed. An operator counts as one kernel. Some start two or three on a GPU;
but which of them a run uses, and how often, is the same everywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten

try:
    from torch.utils.flop_counter import flop_registry
except ImportError:
    flop_registry = {}

COUNTS_PRODUCTS = bool(flop_registry)
"""It is False with torch before 2.2, which does not know the multiply-adds of its operators: they are not counted."""

_NO_WORK = {
    "_local_scalar_dense", "_reshape_alias", "_unsafe_view", "as_strided_", "detach_", "empty",
    "empty_like", "empty_permuted", "empty_strided", "lift_fresh", "new_empty", "new_empty_strided", "resize_",
    "set_", "squeeze_", "swapaxes_", "swapdims_", "t_", "transpose_", "unsafe_chunk", "unsafe_split",
    "unsafe_split_with_sizes", "unsqueeze_",
}  # fmt: skip
"""Operators that start nothing on a device, beside views: they change what is known of a tensor, or find it memory."""

_WAITING = {
    "_local_scalar_dense", "_unique2", "equal", "masked_select", "nonzero", "unique_consecutive", "unique_dim",
}  # fmt: skip
"""Operators whose answer, or its size, the host has to know before it can go on."""

_INDEXING = {"index", "index_put", "index_put_", "_index_put_impl_"}
_COPIES = {"_to_copy", "copy_"}


@dataclass(frozen=True)
class Kernels:
    """What a run asked of a device.

    ``kernels``: operators that start work on it. ``waits``: how often the host has to wait for it. ``multiply_adds``:
    those of matrix products, convolutions and attention; what is done number by number is not among them.
    """

    kernels: int = 0
    waits: int = 0
    multiply_adds: int = 0

    def __add__(self, other: Kernels) -> Kernels:
        return Kernels(self.kernels + other.kernels, self.waits + other.waits, self.multiply_adds + other.multiply_adds)

    def __sub__(self, other: Kernels) -> Kernels:
        return Kernels(self.kernels - other.kernels, self.waits - other.waits, self.multiply_adds - other.multiply_adds)


def count(run: Callable[[], object], device: str = "cpu") -> Kernels:
    """Run, and return what was asked of the device of this type ("cpu", "cuda", "meta").

    What happens on other devices alone is the host's and does not count. On "meta" numbers that are asked for are 0.
    """
    with counting(device) as counter:
        run()
    return counter.found


@contextmanager
def counting(device: str = "cpu") -> Iterator[Counter]:
    """Count within the context; ``Counter.found`` tells what was counted so far. ``device``: see ``count``."""
    counter = Counter(device)
    with _Operators(counter), _Calls(counter):
        yield counter


@dataclass
class Counter:
    """What was counted so far on a device. ``is_within``: what runs now is part of a call that counts as one."""

    device: str
    found: Kernels = field(default_factory=Kernels)
    is_within: bool = False

    def is_on(self, *values: Any) -> bool:
        """Tell whether a tensor among these (or in lists of them) is on the device."""
        return any(tensor.device.type == self.device for tensor in _tensors(values))

    @contextmanager
    def as_one(self) -> Iterator[None]:
        """Count no operators within the context."""
        before, self.is_within = self.is_within, True
        try:
            yield
        finally:
            self.is_within = before


def _tensors(values: Any) -> list[torch.Tensor]:
    return [leaf for leaf in tree_flatten(values)[0] if isinstance(leaf, torch.Tensor)]


# -- calls that count as one ------------------------------------------------


class _Calls(TorchFunctionMode):
    """Sees calls that run as other operators on a GPU than elsewhere, attention above all, or as none that is seen."""

    def __init__(self, counter: Counter):
        super().__init__()
        self._counter = counter

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        asked = _CALLS.get(func)
        if asked is None or self._counter.is_within:
            return func(*args, **kwargs)
        with self._counter.as_one():
            is_meta = isinstance(args[0], torch.Tensor) and args[0].is_meta
            found = (_WITHOUT_NUMBERS.get(func, func) if is_meta else func)(*args, **kwargs)
        if self._counter.is_on(args, kwargs, found):
            self._counter.found += asked(found, *args, **kwargs)
        return found


def _attention(
    found: torch.Tensor, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *unused: Any, **more: Any
) -> Kernels:
    """Return what attention asks: one kernel for the products Q K^T [..., N, L] and those with V [..., L, d]."""
    rows = found.numel() // found.shape[-1]
    return Kernels(1, 0, rows * key.shape[-2] * (query.shape[-1] + value.shape[-1]))


def _numbers_there(found: torch.Tensor, *unused: Any, **more: Any) -> Kernels:
    """Return what a tensor of the host's numbers asks: their copy to the device, where that is another one."""
    is_copied = found.device.type != "cpu"
    return Kernels(int(is_copied), int(is_copied), 0)


def _numbers_here(found: Any, *unused: Any, **more: Any) -> Kernels:
    """Return what a tensor's numbers on the host ask: that the device is done."""
    return Kernels(waits=1)


_CALLS: dict[Any, Callable[..., Kernels]] = {
    scaled_dot_product_attention: _attention,
    torch.tensor: _numbers_there,
    torch.Tensor.tolist: _numbers_here,
}


def _laid_out(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *unused: Any, **more: Any) -> torch.Tensor:
    """Return a result of attention as kernels on GPUs lay it out, all heads of a pixel together: [..., h, N, d]."""
    *batch, heads, pixels, _ = query.shape
    return query.new_empty(*batch, pixels, heads, value.shape[-1]).transpose(-3, -2)


_WITHOUT_NUMBERS: dict[Any, Callable[..., Any]] = {
    scaled_dot_product_attention: _laid_out,
    torch.Tensor.tolist: lambda tensor: torch.zeros(tensor.shape).tolist(),
}
"""What takes a call's place on the device "meta"."""


# -- operators ------------------------------------------------


class _Operators(TorchDispatchMode):
    """Sees every operator that no other one consists of."""

    def __init__(self, counter: Counter):
        super().__init__()
        self._counter = counter

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        with self:  # where torch infers, operators come whole that else come in their parts
            parts = func.decompose(*args, **kwargs)
        if parts is not NotImplemented:
            return parts
        found = _run(func, args, kwargs)
        if not self._counter.is_within and self._counter.is_on(args, kwargs, found):
            self._counter.found += _one(func, args, kwargs, found)
        return found


def _name(func: Any) -> str:
    return func._schema.name.rpartition("::")[2]


def _run(func: Any, args: Any, kwargs: Any) -> Any:
    """Run an operator. A tensor without numbers that is asked for them gives zeros."""
    name = _name(func)
    if name == "_local_scalar_dense" and args[0].is_meta:
        return torch.zeros((), dtype=args[0].dtype).item()
    if name == "_to_copy" and args[0].is_meta and torch.device(kwargs.get("device") or "meta").type != "meta":
        return torch.zeros(args[0].shape, dtype=kwargs.get("dtype") or args[0].dtype, device=kwargs["device"])
    return func(*args, **kwargs)


def _one(func: Any, args: Any, kwargs: Any, found: Any) -> Kernels:
    """Return what one operator asks of the device."""
    return Kernels(int(_starts_work(func, found)), int(_waits(func, args, kwargs, found)), _products(func, args, found))


def _starts_work(func: Any, found: Any) -> bool:
    results = _tensors(found)
    is_empty = bool(results) and not any(result.numel() for result in results)
    return not (func.is_view or is_empty or _name(func) in _NO_WORK)


def _waits(func: Any, args: Any, kwargs: Any, found: Any) -> bool:
    name = _name(func)
    if name in _COPIES:
        to = args[0] if name == "copy_" else found
        source = args[1] if name == "copy_" else args[0]
        non_blocking = kwargs.get("non_blocking") or (name == "copy_" and len(args) > 2 and args[2])
        return to.device.type != source.device.type and not non_blocking
    if name in _INDEXING:
        return any(index.dtype in (torch.bool, torch.uint8) for index in _tensors(args[1]))
    if name == "repeat_interleave":
        return kwargs.get("output_size") is None
    return name in _WAITING


def _products(func: Any, args: Any, found: Any) -> int:
    """Return the multiply-adds of an operator; one in place counts as the one that is not."""
    packet = getattr(torch.ops.aten, _name(func).removesuffix("_"), None)
    known = flop_registry.get(packet)
    return 0 if known is None else known(*args, out_val=found) // 2
