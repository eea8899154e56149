"""Tells where a pipeline's call begins and where it ends."""

from __future__ import annotations

import functools
import inspect
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any

from torch import nn
from torch.utils.hooks import RemovableHandle

from lib_gie.core.call import Args, Kwargs
from lib_gie.handles import take_off

from .compiled import keep_hooks, release_hooks

Around = Callable[[dict[str, Any]], AbstractContextManager[Any]]
"""Makes the context of one call of a pipeline from the call's arguments by name."""

_lock = threading.RLock()
_watched: dict[type, _Watched] = {}


class _Watched:
    """A pipeline class whose ``__call__`` is replaced while some of its pipelines are watched.

    Python looks ``__call__`` up on the class, so the instance's own attribute would not be called.
    """

    def __init__(self, kind: Any):
        self.kind, self.own = kind, vars(kind).get("__call__")
        self.users: list[tuple[Any, Around]] = []
        inner, signature = kind.__call__, inspect.signature(kind.__call__)

        @functools.wraps(inner)
        def call(pipe: Any, *args: Any, **kwargs: Any) -> Any:
            # a subclass's own ``__call__`` may come by here on its way up: that call is watched already
            arounds = [around for user, around in self.users if user is pipe] if type(pipe) is kind else []
            with ExitStack() as stack:
                if arounds:
                    named = signature.bind_partial(pipe, *args, **kwargs).arguments
                    for around in arounds:
                        stack.enter_context(around(named))
                return inner(pipe, *args, **kwargs)

        kind.__call__ = call

    def restore(self) -> None:
        """Give the class its own ``__call__`` back."""
        if self.own is None:
            del self.kind.__call__
        else:
            self.kind.__call__ = self.own


@contextmanager
def watch_calls(pipe: Any, around: Around) -> Iterator[None]:
    """Have every call of ``pipe`` run, within the context, in one that ``around`` makes; other pipelines' do not."""
    kind, user = type(pipe), (pipe, around)
    with _lock:
        if kind not in _watched:
            _watched[kind] = _Watched(kind)
        _watched[kind].users.append(user)
    try:
        yield
    finally:
        with _lock:
            watched = _watched[kind]
            watched.users.remove(user)
            if not watched.users:
                _watched.pop(kind).restore()


def wrap_encoder(pipe: Any, name: str, after: Callable[[Any, dict[str, Any]], None]) -> Callable[[], None]:
    """Have ``after`` called with what the pipeline's method ``name`` has encoded, and with its arguments by name.

    Returns what takes the wrapper away again.
    """
    inner, own = getattr(pipe, name), pipe.__dict__.get(name)
    signature = inspect.signature(inner)

    def encode(*args: Any, **kwargs: Any) -> Any:
        result = inner(*args, **kwargs)
        after(result, signature.bind_partial(*args, **kwargs).arguments)
        return result

    def restore() -> None:
        if own is None:
            delattr(pipe, name)
        else:
            setattr(pipe, name, own)

    setattr(pipe, name, encode)
    return restore


class UNetWatch:
    """Counts the calls of the UNet that a pipeline has. ``hook``: a forward pre-hook with keyword arguments."""

    def __init__(self, hook: Callable[[nn.Module, Args, Kwargs], None]):
        self._hook = hook
        self._unet: nn.Module | None = None
        self._handle: RemovableHandle | None = None

    def begin(self, unet: nn.Module) -> None:
        """Watch this UNet, and no other one any more."""
        if self._unet is not unet:
            self.end()
            keep_hooks(unet)
            self._unet, self._handle = unet, unet.register_forward_pre_hook(self._hook, with_kwargs=True)

    def end(self) -> None:
        """Watch no UNet any more."""
        if self._unet is not None and self._handle is not None:
            take_off(self._unet, self._handle)
            release_hooks(self._unet)
        self._unet = self._handle = None
