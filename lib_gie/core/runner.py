"""Runs a UNet with hooks on its attention layers: each run has a pass that says what happens in them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from operator import attrgetter
from typing import Any

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from lib_gie.errors import ErasureError, told_to
from lib_gie.handles import take_off

from .arithmetic import takes_few_kernels
from .call import Args, Kwargs, UNetCall, context_in
from .capture import QUERIES, ProjectionCapture
from .folds import Folds
from .layers import find_cross_attention
from .passes import Pass

Undisturbed = Callable[[], AbstractContextManager[Any]]
"""Makes a context around UNet calls that are not the host's, which leaves the host's own randomness as it was."""

_VERSION = attrgetter("_version")
"""How often a tensor was written to, as torch counts it."""

_inner = threading.local()
"""``owner``: the runner whose own UNet call, which no host makes, runs in this thread; the others let it pass."""


def is_inner_call() -> bool:
    """Tell whether the running UNet call is none of the host's (a probe, a concept pass); hosts do not announce it."""
    return getattr(_inner, "owner", None) is not None


class UNetRunner:
    """The hooks on a UNet's cross-attention layers, and what is made of the UNet's weights.

    ``refused``: is told of what is raised in a layer, which a host may swallow. Raises UnsupportedModelError for a UNet
    without usable cross-attention.
    """

    def __init__(self, unet: nn.Module, refused: Callable[[BaseException], None] = lambda error: None):
        self.unet = unet
        self.layers = find_cross_attention(unet)
        self.running: Pass | None = None
        """The pass of the UNet call that runs now."""
        self._refused = refused
        self._capture = ProjectionCapture(self.layers, lambda: self.is_watching)
        self.folds = Folds(self.layers)
        self._handles: list[tuple[nn.Module, RemovableHandle]] = []
        self._weights = [weight for weight in unet.parameters() if not weight.is_inference()]
        self._is_before_out = False
        self._written: int | None = None  # how often they had been written to when the UNet was last seen

    @property
    def is_watching(self) -> bool:
        """Tell whether the UNet call that runs has a pass of this runner."""
        return self.running is not None and getattr(_inner, "owner", None) in (None, self)

    def attach(self, parts: Iterable[str] = (QUERIES,)) -> None:
        """Put the hooks on the layers and on these of their projections; a second time changes nothing."""
        is_new = not self._handles
        self._handles += self._capture.attach({QUERIES, *parts})
        for index, layer in enumerate(self.layers if is_new else ()):
            handle = layer.module.register_forward_hook(self._layer_hook(index), with_kwargs=True)
            self._handles.append((layer.module, handle))

    def attach_before_out(self, device: torch.device) -> None:
        """Put hooks on the layers' W_o as well, where few kernels count on this device; again changes nothing."""
        if not self._is_before_out and takes_few_kernels(device):
            self._handles += self._capture.attach_before_out(self._before_out)
            self._is_before_out = True

    def detach(self) -> None:
        """Take the hooks off."""
        self.end()
        remove(self._handles)
        self._is_before_out = False
        self._capture.detached()
        self.folds.clear()

    def end(self) -> None:
        """End a UNet call, and forget what it has left."""
        self.running = None
        self._capture.forget()

    def run_own(self, own: Pass, call: UNetCall, undisturbed: Undisturbed) -> Any:
        """Run the UNet for a pass that no host knows of, and return what it returns.

        Raises ErasureError where some of its layers do not run.
        """
        _inner.owner, self.running = self, own
        try:
            with torch.no_grad(), undisturbed():
                output = call.run(self.unet)
        finally:
            _inner.owner = None
            self.end()
            self._written = self._writes()  # hosts may put LoRAs into the weights as they run the layers
        own.check()
        return output

    def _before_out(self, index: int, hidden: torch.Tensor) -> torch.Tensor | None:
        if self.running is None:
            return None
        with told_to(self._refused):
            return self.running.before_out(index, hidden, self._capture)

    def _layer_hook(self, index: int) -> Callable[[nn.Module, Args, Kwargs, torch.Tensor], torch.Tensor | None]:
        def run_layer(module: nn.Module, args: Args, kwargs: Kwargs, output: torch.Tensor) -> torch.Tensor | None:
            running = self.running if self.is_watching else None
            if running is None and is_inner_call():
                return None
            with told_to(self._refused):
                if running is not None:
                    return running.run_layer(index, context_in(args, kwargs), output, self._capture)
                raise ErasureError(
                    f"attention layer {self.layers[index].name} ran outside a call of the UNet that could be watched; "
                    f"nothing was erased. Something calls the UNet's forward directly: switch it off"
                )

        return run_layer

    # -- what is made of the weights ------------------------------------------------

    def notices_writes(self) -> bool:
        """Tell whether the weights were written to since the last call, and forget then what was made of them."""
        before, self._written = self._written, self._writes()
        if before in (None, self._written):
            return False
        self.folds.clear()
        return True

    def _writes(self) -> int:
        return sum(map(_VERSION, self._weights))


def remove(handles: list[tuple[nn.Module, RemovableHandle]]) -> None:
    """Take hooks off their modules, and empty the list."""
    for module, handle in handles:
        take_off(module, handle)
    handles.clear()
