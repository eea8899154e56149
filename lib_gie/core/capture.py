"""The queries, keys and values of attention layers, kept while a layer runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from lib_gie.errors import ErasureError

from .call import Args, Kwargs, context_in, rows_within
from .layers import AttentionLayer

PROJECTIONS = QUERIES, KEYS, VALUES = "to_q", "to_k", "to_v"
"""What can be kept of a layer, by the names of its modules."""

BeforeOut = Callable[[int, torch.Tensor], torch.Tensor | None]
"""Is called with a layer's number and what goes into its W_o, [B, N, h*d]. Returns what takes its place, or None."""


class ProjectionCapture:
    """Hooks that keep what a layer's projections return: its queries, and keys and values where they are asked for.

    ``is_wanted``: whether the UNet call that runs now is one whose projections are needed.
    """

    def __init__(self, layers: Sequence[AttentionLayer], is_wanted: Callable[[], bool]):
        self._layers, self._is_wanted = layers, is_wanted
        self._hooked: set[str] = set()
        self._inputs: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}  # what a layer and its keys are made of
        self._kept: dict[tuple[int, str], dict[int, torch.Tensor]] = {}  # by first row: [rows, N or L, h*d]

    def attach(self, parts: Iterable[str]) -> list[tuple[nn.Module, RemovableHandle]]:
        """Put hooks on these projections of all layers, and return their modules with the handles.

        Projections that have hooks already are left out.
        """
        new = [part for part in PROJECTIONS if part in set(parts) - self._hooked]
        found: list[tuple[nn.Module, RemovableHandle]] = []
        for index, layer in enumerate(self._layers):
            if new and not self._hooked:
                handle = layer.module.register_forward_pre_hook(self._input_hook(index), with_kwargs=True)
                found.append((layer.module, handle))
            for part in new:
                module = layer.module.get_submodule(part)
                found.append((module, module.register_forward_hook(self._projection_hook(index, part))))
        self._hooked.update(new)
        return found

    def attach_before_out(self, run: BeforeOut) -> list[tuple[nn.Module, RemovableHandle]]:
        """Put hooks that call ``run`` on the W_o of all layers, and return these modules with the handles."""

        def hook(index: int) -> Callable[[nn.Module, Args], Args | None]:
            def before(module: nn.Module, args: Args) -> Args | None:
                changed = run(index, args[0]) if args and self._is_wanted() else None
                return None if changed is None else (changed, *args[1:])

            return before

        modules = [layer.out_projection for layer in self._layers]
        return [(module, module.register_forward_pre_hook(hook(index))) for index, module in enumerate(modules)]

    def detached(self) -> None:
        """Note that the hooks have been taken off."""
        self._hooked.clear()

    def forget(self) -> None:
        """Forget what a UNet call has left."""
        self._inputs.clear()
        self._kept.clear()

    def drop(self, index: int) -> None:
        """Forget what is kept of a layer, which nobody needs any more."""
        self._inputs.pop(index, None)
        for part in self._hooked:
            self._kept.pop((index, part), None)

    def is_running(self, index: int) -> bool:
        """Tell whether a layer runs, and nothing that it made was taken yet."""
        return index in self._inputs

    def context(self, index: int) -> torch.Tensor:
        """Return the context [B, L, D] of a layer that runs."""
        return self._inputs[index][1]

    def whole(self, index: int) -> torch.Tensor | None:
        """Return the queries [B, N, h*d] of a layer that runs, where it made them at once, and keep them on."""
        parts = self._kept.get((index, QUERIES), {})
        return parts.get(0) if len(parts) == 1 else None

    def pixels(self, index: int) -> int:
        """Return N of the queries that are kept of a layer; 0 where there are none."""
        return next((part.shape[1] for part in self._kept.get((index, QUERIES), {}).values()), 0)

    def take(self, index: int, part: str, batch: int) -> torch.Tensor:
        """Return what a projection made in a UNet call of ``batch`` rows, [B, N or L, h*d], and keep it no longer.

        Raises ErasureError where the layer did not call it, or not for all rows.
        """
        name, parts = self._layers[index].name, self._kept.pop((index, part), None)
        self._inputs.pop(index, None)
        if parts is None:
            raise ErasureError(
                f"attention layer {name} ran without calling its {part}, so nothing can be erased there; another "
                f"extension replaces it: switch it off"
            )
        whole = parts.get(0)
        return whole if whole is not None and whole.shape[0] == batch else _joined(parts, batch, name)

    def _input_hook(self, index: int) -> Callable[[nn.Module, Args, Kwargs], None]:
        def keep_input(module: nn.Module, args: Args, kwargs: Kwargs) -> None:
            if self._is_wanted():
                given = args[0] if args else next(iter(kwargs.values()))  # [B, N, C]
                self._inputs[index] = given, context_in(args, kwargs)  # [B, L, D]

        return keep_input

    def _projection_hook(self, index: int, part: str) -> Callable[[nn.Module, Args, torch.Tensor], None]:
        def keep(module: nn.Module, args: Args, output: torch.Tensor) -> None:
            if self._is_wanted():
                inputs = self._inputs.get(index)
                whole = None if inputs is None else inputs[part != QUERIES]
                rows = rows_within(args[0], whole) if args and whole is not None else None
                first = 0 if rows is None else rows.start
                self._kept.setdefault((index, part), {})[first] = output  # [rows, N or L, h*d]

        return keep


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
