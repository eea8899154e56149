"""Keeps an image's composition: it attends where the same image without erasure does.

The authors' code samples two trajectories from the same noise, as Prompt-to-Prompt does (Hertz et al., 2022): for the
first 80 % of the steps the prompt's maps of the one without erasure serve both, for the first 40 % its small
self-attention maps. Here that one is sampled first, and what its conditional rows were given is written down. The
erased one repeats each of those UNet calls to have its queries and keys: a map is made of nothing else, so it need
never be kept. The concept's own map, too, is then that of the image without erasure.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from lib_gie.errors import ErasureError, OptionError, UnsupportedModelError
from lib_gie.options import BY_NAME, CROSS_SHARE, SELF_SHARE

from .call import Args, Rows, UNetCall
from .layers import AttentionLayer, find_self_attention

SELF_PIXELS = 16 * 16
"""Self-attention maps of at most this many pixels are taken over: larger ones would bring the erased object back."""

CROSS, SELF = "cross", "self"


class Trace:
    """The UNet calls of a trajectory without erasure: what was given to their conditional rows, in order."""

    def __init__(self) -> None:
        self.calls: list[tuple[tuple[Hashable, ...], UNetCall]] = []

    def record(self, names: Sequence[Hashable], call: UNetCall) -> None:
        """Write down a call that has conditional rows alone, by their names."""
        self.calls.append((tuple(names), call.copied()))


class Composition:
    """The composition of one generation, taken from ``trace``, that of the same generation without erasure.

    ``cross``, ``self_attention``: fractions of the steps, 0 to 1, during which the prompt's maps and the small
    self-attention maps are those without erasure.
    """

    def __init__(self, trace: Trace, cross: float = CROSS_SHARE, self_attention: float = SELF_SHARE):
        self.trace = trace
        self.cross: float = BY_NAME["composition_cross"].check(cross)
        self.self_attention: float = BY_NAME["composition_self"].check(self_attention)
        if not trace.calls:
            raise OptionError("there is no image without erasure to keep the composition of; make that one first")
        self._position = 0

    def kinds(self, progress: float) -> frozenset[str]:
        """Return which kinds of attention are followed at this fraction of the sampling."""
        shares = {CROSS: self.cross, SELF: self.self_attention}
        return frozenset(kind for kind, share in shares.items() if progress < share)

    def next_call(self, names: Sequence[Hashable], call: UNetCall) -> UNetCall:
        """Return the recorded call that belongs to ``call``, whose rows are conditional and have these names.

        Raises ErasureError where this trajectory differs from the recorded one.
        """
        number, self._position = self._position, self._position + 1
        if number >= len(self.trace.calls):
            raise _departed(f"has {number + 1} UNet calls or more, that one had {number}")
        found, recorded = self.trace.calls[number]
        if found != tuple(names):
            raise _departed(f"has the rows {tuple(names)} in UNet call {number + 1}, that one had {found}")
        if not torch.equal(call.timestep, recorded.timestep):
            raise _departed(f"is at another timestep in UNet call {number + 1}")
        if number == 0 and not call.same_as(recorded):
            raise _departed("starts from other noise or from another prompt")
        return recorded


def _departed(how: str) -> ErasureError:
    return ErasureError(
        f"the composition of the image without erasure cannot be kept: the erased one {how}. Prompts, seeds, size and "
        f"steps of both must be the same, and the sampler must not choose its own steps (as DPM adaptive does)"
    )


def _refuse_fused(layer: AttentionLayer) -> None:
    if getattr(layer.module, "fused_projections", False):
        raise UnsupportedModelError(
            f"attention layer {layer.name} makes queries, keys and values at once (fuse_qkv_projections), so a "
            f"composition cannot be kept; call unfuse_qkv_projections() first, or do not keep the composition"
        )


class Follower:
    """Hooks through which a UNet call takes over queries and keys of another.

    ``is_ours``: whether the call that runs now is one that they may touch.
    """

    def __init__(self, unet: nn.Module, cross: Sequence[AttentionLayer], is_ours: Callable[[], bool]):
        # the prompt's keys are the same for both, so its queries alone make the map
        self._projections = [(layer.name, CROSS, layer.to_q) for layer in cross]
        for layer in find_self_attention(unet):
            _refuse_fused(layer)
            self._projections += [(layer.name, SELF, part) for part in (layer.to_q, layer.to_k)]
        self._is_ours = is_ours
        self._kept: dict[int, torch.Tensor] = {}
        self._used: set[int] = set()
        self._kinds: frozenset[str] = frozenset()
        self._count = 0
        self._rows: Rows | None = None
        self._batch = 0

    def attach(self) -> list[tuple[nn.Module, RemovableHandle]]:
        """Put hooks on, and return the modules with their handles.

        They run before all others, so that whoever attends to a concept sees these queries.
        """
        return [
            (part, part.register_forward_hook(self._hook(index), prepend=True))
            for index, (_, _, part) in enumerate(self._projections)
        ]

    @contextmanager
    def keeping(self, kinds: frozenset[str], count: int) -> Iterator[None]:
        """Keep what the projections of these kinds return, in UNet calls of ``count`` rows within the context."""
        self.forget()
        self._kinds, self._count = kinds, count
        try:
            yield
        finally:
            self._kinds = frozenset()

    def replace_in(self, rows: Rows, batch: int) -> None:
        """Have these rows of the next UNet call, which has ``batch`` rows, take over what was kept."""
        self._rows, self._batch = rows, batch

    def forget(self) -> None:
        """End a UNet call."""
        self._kept.clear()
        self._used.clear()
        self._rows = None

    def check_used(self) -> None:
        """Raise ErasureError where something kept was not taken over."""
        unused = [index for index in self._kept if index not in self._used]
        if unused:
            name = self._projections[unused[0]][0]
            raise ErasureError(
                f"attention layer {name} and {len(unused) - 1} others did not take over the composition; another "
                f"extension replaces them: switch it off, or do not keep the composition"
            )

    def _hook(self, index: int) -> Callable[[nn.Module, Args, torch.Tensor], torch.Tensor | None]:
        name, kind, _ = self._projections[index]

        def run(module: nn.Module, args: Args, output: torch.Tensor) -> torch.Tensor | None:
            if not self._is_ours():
                return None
            if kind in self._kinds and (kind == CROSS or self._is_small_map(output)):
                self._kept[index] = output  # [rows, N, h*d]
            if self._rows is None or index not in self._kept:
                return None
            self._used.add(index)  # kept on: extensions for regions project the same rows once for each region
            return self._replaced(name, output, self._kept[index])

        return run

    def _is_small_map(self, output: torch.Tensor) -> bool:
        """Tell whether self-attention's queries or keys [B, N, h*d] are of whole images, and few.

        Where another extension cuts images into tiles, each tile is a row: that map is a large one's.
        """
        return output.shape[0] == self._count and output.shape[1] <= SELF_PIXELS

    def _replaced(self, name: str, output: torch.Tensor, kept: torch.Tensor) -> torch.Tensor:
        """Return ``output`` [B, N, h*d] with ``kept`` [rows, N, h*d] in its conditional rows."""
        if output.shape[0] != self._batch or output[self._rows].shape != kept.shape:
            raise ErasureError(
                f"attention layer {name} has {tuple(output.shape)} queries in a UNet call of {self._batch} rows where "
                f"the image without erasure had {tuple(kept.shape)}; another extension rearranges them: switch it off, "
                f"or do not keep the composition"
            )
        result = output.clone()  # it may be part of a graph, or another extension's
        result[self._rows] = kept
        return result
