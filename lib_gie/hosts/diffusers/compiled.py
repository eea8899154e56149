"""A UNet that torch.compile was used on, while concepts are erased from what it makes.

Compiled code passes hooks by. Each cross-attention layer therefore becomes one operator of the compiled graph, which
runs the layer as it was written, with its hooks. All else stays compiled, also with ``fullgraph=True``.

The layers are given another class for that time: dynamo keeps one graph for each class, so that the graph of a UNet
that nothing is erased from is never taken for the other, and neither is compiled a second time.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Any
from weakref import WeakKeyDictionary, WeakValueDictionary

import torch
from torch import nn

from lib_gie.core.layers import AttentionLayer, find_cross_attention
from lib_gie.errors import UnsupportedModelError

_HOOKS = [name for name in vars(nn.Module()) if name.startswith("_forward") and "_hooks" in name]

_numbers = itertools.count()
_layers: WeakValueDictionary[int, nn.Module] = WeakValueDictionary()
"""The layers that operators of compiled graphs run, by number."""

_watchers: WeakKeyDictionary[nn.Module, int] = WeakKeyDictionary()
"""How many need the hooks of a UNet that was compiled in place."""


# -- what was compiled ------------------------------------------------


def _is_compiled(module: nn.Module) -> bool:
    """Tell whether a module was compiled by wrapping it, in place, or in its forward; its parts are not looked at."""
    return (
        type(module).__name__ == "OptimizedModule"
        or getattr(module, "_compiled_call_impl", None) is not None
        or hasattr(module.forward, "_torchdynamo_orig_callable")
    )


def is_compiled(unet: nn.Module) -> bool:
    """Tell whether torch.compile was used on a UNet, a part of it or its forward."""
    return any(map(_is_compiled, unet.modules()))


def _is_compiled_within(layer: AttentionLayer) -> bool:
    """Tell whether something within a layer was compiled, which would pass the hooks in it by.

    A layer that was itself compiled in place is no such case: it is run as it was written.
    """
    module = layer.module
    parts = [part for part in module.modules() if part is not module]
    return hasattr(module.forward, "_torchdynamo_orig_callable") or any(map(_is_compiled, parts))


def check_compiled(unet: nn.Module) -> None:
    """Raise UnsupportedModelError where a UNet was compiled and torch is too old to run it as it was written."""
    if is_compiled(unet) and not hasattr(torch.compiler, "set_stance"):
        raise UnsupportedModelError(
            f"the UNet was compiled with torch.compile, whose code passes growth inhibitors by, and torch "
            f"{torch.__version__} cannot leave a part of it uncompiled; load the UNet without compiling it, or use "
            f"torch 2.9 or newer, where it stays compiled while concepts are erased"
        )


# -- running it ------------------------------------------------


def as_written(unet: nn.Module) -> AbstractContextManager[Any]:
    """Make a context in which a compiled UNet, or one with compiled parts, runs as if nothing had been compiled.

    Raises UnsupportedModelError where torch is too old for that.
    """
    check_compiled(unet)
    return uncompiled() if is_compiled(unet) else nullcontext()


@contextmanager
def uncompiled() -> Iterator[None]:
    """Have nothing run compiled within the context. It needs torch 2.6."""
    with torch.compiler.set_stance("force_eager"):  # making it sets it: it is made here and nowhere else
        yield


@contextmanager
def hooked(unet: nn.Module, options: Mapping[str, Any], needs_all: bool = False) -> Iterator[None]:
    """Have the hooks of a compiled UNet's cross-attention layers called within the context; all else stays compiled.

    ``options``: the arguments by name of the pipeline's call. ``needs_all``: whether other layers have hooks, too.
    With these, and where an operator of the graph cannot take the layers' place, nothing runs compiled.

    Raises UnsupportedModelError where torch is too old for both.
    """
    if not is_compiled(unet):
        yield
        return
    layers = find_cross_attention(unet)
    if needs_all or not _can_be_operators(unet, layers, options):
        with as_written(unet):
            yield
        return
    _define_operator()
    with ExitStack() as stack:
        keep_hooks(unet)  # it may have been compiled a moment ago
        stack.callback(release_hooks, unet)
        for layer in layers:
            _become_operator(layer.module, stack)
        limit = torch._dynamo.config.recompile_limit
        stack.enter_context(torch._dynamo.config.patch(recompile_limit=2 * limit))  # there are two graphs of each
        yield


def _can_be_operators(unet: nn.Module, layers: tuple[AttentionLayer, ...], options: Mapping[str, Any]) -> bool:
    """Tell whether an operator can take the place of each cross-attention layer in a pipeline's call.

    It takes tensors alone, and returns the dtype that it is given. A torch without the tag that keeps operators
    out of CUDA graphs could replay a graph without calling the hooks.
    """
    takes_more = set(options.get("cross_attention_kwargs") or ()) - {"scale"}  # the UNet itself uses up that one
    has_adapter = getattr(unet, "encoder_hid_proj", None) is not None  # IP-Adapter gives layers a tuple
    device = next(unet.parameters()).device.type
    return (
        hasattr(torch.Tag, "cudagraph_unsafe")
        and not (takes_more or has_adapter or torch.is_autocast_enabled(device))
        and not any(map(_is_compiled_within, layers))
    )


# -- a layer as an operator ------------------------------------------------


@functools.cache
def _define_operator() -> None:
    """Define the operator that runs a layer.

    Its ``number`` is a tensor, int64 [], on the CPU: graphs guard on the value of a number, and layers share graphs.
    """
    name = "lib_gie::attention_layer"
    schema = "(Tensor hidden, Tensor? context, Tensor? mask, Tensor number) -> Tensor"
    torch.library.define(name, schema, tags=(torch.Tag.cudagraph_unsafe,))
    torch.library.impl(name, "CompositeExplicitAutograd", _run_layer)
    torch.library.register_fake(name, lambda hidden, context, mask, number: hidden.new_empty(hidden.shape))


def _run_layer(
    hidden: torch.Tensor, context: torch.Tensor | None, mask: torch.Tensor | None, number: torch.Tensor
) -> torch.Tensor:
    """Run a layer with its hooks: ``hidden`` [B, N, C], ``context`` [B, L, D] -> [B, N, C]."""
    layer = _layers[int(number)]
    output: torch.Tensor = layer._call_impl(hidden, encoder_hidden_states=context, attention_mask=mask)
    return output.to(hidden.dtype).contiguous()  # [B, N, C], as the graph was told


@torch.compiler.disable  # type: ignore[untyped-decorator]
def _run_beside_graph(layer: nn.Module, *args: Any, **kwargs: Any) -> Any:
    return layer._call_impl(*args, **kwargs)


def _call_layer(
    self: Any,
    hidden_states: torch.Tensor,
    encoder_hidden_states: Any = None,
    attention_mask: torch.Tensor | None = None,
    **more: Any,
) -> Any:
    """Take the place of a layer's ``__call__``: in a graph that is being compiled it is the operator."""
    if torch.compiler.is_compiling() and not more and not torch.is_grad_enabled():
        return torch.ops.lib_gie.attention_layer.default(
            hidden_states, encoder_hidden_states, attention_mask, self.number_for_operator
        )
    named = {"encoder_hidden_states": encoder_hidden_states, "attention_mask": attention_mask, **more}
    return _run_beside_graph(self, hidden_states, **named)


def _become_operator(module: Any, stack: ExitStack) -> None:
    """Have a layer called through ``_call_layer``, until the stack is closed; a second time changes nothing."""
    kind = type(module)
    if "number_for_operator" in vars(module):
        return
    number = next(_numbers)
    _layers[number] = module
    vars(module)["number_for_operator"] = torch.tensor(number)  # int64 []
    stack.callback(vars(module).pop, "number_for_operator")
    module.__class__ = _layer_class(kind)  # type: ignore[arg-type]
    stack.callback(setattr, module, "__class__", kind)


@functools.cache
def _layer_class(kind: type) -> type:
    return _class_like(kind, __call__=_call_layer)


def _class_like(kind: Any, **methods: Any) -> type:
    """Make a class that is as another but for these methods. One for each is kept: compiled graphs guard on it."""
    names = {"__module__": kind.__module__, "__qualname__": kind.__qualname__, "__doc__": kind.__doc__}
    return type(kind.__name__, (kind,), {**names, **methods})


# -- the hooks of the UNet itself ------------------------------------------------


def keep_hooks(unet: Any) -> None:
    """Have the hooks of a UNet that was compiled in place called, around what is compiled, until ``release_hooks``.

    The hooks of other UNets are called anyway. Each call of this function needs one of the other.
    """
    _watchers[unet] = _watchers.get(unet, 0) + 1
    is_new = not hasattr(type(unet), "compiled_kind")
    if is_new and getattr(unet, "_compiled_call_impl", None) is not None:
        unet.__class__ = _unet_class(type(unet))  # type: ignore[arg-type]


def release_hooks(unet: Any) -> None:
    """Take back one ``keep_hooks``."""
    _watchers[unet] -= 1
    if not _watchers[unet]:
        del _watchers[unet]
        unet.__class__ = getattr(type(unet), "compiled_kind", type(unet))


@functools.cache
def _unet_class(kind: type) -> type:
    return _class_like(kind, __call__=nn.Module._call_impl, forward=_run_compiled, compiled_kind=kind)


def _run_compiled(self: Any, *args: Any, **kwargs: Any) -> Any:
    """Take the place of a UNet's forward: call what was compiled, which would call the hooks once more."""
    own, kind = vars(self), type(self)
    kept = {name: own[name] for name in _HOOKS}
    try:
        own.update({name: type(hooks)() for name, hooks in kept.items()})
        self.__class__ = kind.compiled_kind
        return own["_compiled_call_impl"](*args, **kwargs)
    finally:
        self.__class__ = kind
        own.update(kept)
