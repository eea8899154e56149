"""The queries of attention layers, kept while a layer runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from lib_gie.errors import ErasureError

from .call import Args, Kwargs, rows_within
from .layers import AttentionLayer


class QueryCapture:
    """Hooks that keep each layer's input and the queries that it makes of it.

    ``is_wanted``: whether the UNet call that runs now is one whose queries are needed.
    """

    def __init__(self, layers: Sequence[AttentionLayer], is_wanted: Callable[[], bool]):
        self._layers, self._is_wanted = layers, is_wanted
        self._inputs: dict[int, torch.Tensor] = {}  # by layer: [B, N, C], while it runs
        self._queries: dict[int, dict[int, torch.Tensor]] = {}  # by layer, by first row: [rows, N, h*d]

    def attach(self, index: int) -> list[tuple[nn.Module, RemovableHandle]]:
        """Put hooks on a layer, and return the modules with their handles."""
        module, to_q = self._layers[index].module, self._layers[index].to_q
        return [
            (module, module.register_forward_pre_hook(self._input_hook(index), with_kwargs=True)),
            (to_q, to_q.register_forward_hook(self._query_hook(index))),
        ]

    def forget(self) -> None:
        """Forget what a UNet call has left."""
        self._inputs.clear()
        self._queries.clear()

    def drop(self, index: int) -> None:
        """Forget a layer's queries, which nobody needs."""
        self._inputs.pop(index, None)
        self._queries.pop(index, None)

    def pixels(self, index: int) -> int:
        """Return N of the queries that are kept of a layer; 0 where there are none."""
        return next((part.shape[1] for part in self._queries.get(index, {}).values()), 0)

    def take(self, index: int, batch: int) -> torch.Tensor:
        """Return a layer's queries [B, N, h*d] in a UNet call of ``batch`` rows, and keep them no longer.

        Raises ErasureError where the layer made none, or not those of all rows.
        """
        name, parts = self._layers[index].name, self._queries.pop(index, None)
        self._inputs.pop(index, None)
        if parts is None:
            raise ErasureError(f"attention layer {name} ran without calling its to_q; it cannot be erased from")
        query = parts.get(0)
        return query if query is not None and query.shape[0] == batch else _joined(parts, batch, name)

    def _input_hook(self, index: int) -> Callable[[nn.Module, Args, Kwargs], None]:
        def keep_input(module: nn.Module, args: Args, kwargs: Kwargs) -> None:
            if self._is_wanted():
                self._inputs[index] = args[0] if args else next(iter(kwargs.values()))  # [B, N, C]

        return keep_input

    def _query_hook(self, index: int) -> Callable[[nn.Module, Args, torch.Tensor], None]:
        def keep_query(module: nn.Module, args: Args, output: torch.Tensor) -> None:
            if self._is_wanted():
                rows = rows_within(args[0], self._inputs[index]) if args and index in self._inputs else None
                first = 0 if rows is None else rows.start
                self._queries.setdefault(index, {})[first] = output  # [rows, N, h*d]

        return keep_query


def _joined(parts: dict[int, torch.Tensor], batch: int, name: str) -> torch.Tensor:
    """Return the queries of a whole batch, [B, N, h*d]. Some extensions compute conditional rows by themselves.

    ``parts``: by first row, [rows, N, h*d] each.
    """
    found, end = [], 0
    for first, part in sorted(parts.items()):
        if first == end:
            found.append(part)
            end += part.shape[0]
    if end != batch:
        raise ErasureError(
            f"attention layer {name} saw {max(len(part) for part in parts.values())} rows in a UNet call of "
            f"{batch}; another extension rearranges the batch inside the UNet: switch it off"
        )
    return torch.cat(found)
