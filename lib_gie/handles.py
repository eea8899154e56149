"""Takes hooks off modules for certain."""

from __future__ import annotations

from torch import nn
from torch.utils.hooks import RemovableHandle


def take_off(module: nn.Module, handle: RemovableHandle) -> None:
    """Remove a forward hook or pre-hook of ``module``.

    Some extensions put a module's hooks into another dict, which the handle does not know: its own removal would leave
    the hook behind, in a WebUI for all requests that follow.
    """
    handle.remove()
    for hooks in (module._forward_hooks, module._forward_pre_hooks):
        hooks.pop(handle.id, None)
