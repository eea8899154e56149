"""Keeps live previews from showing what nothing is erased from.

The WebUI decides at every step what it stores for them, by an option that anybody may change meanwhile. So the option
is not set: where the denoiser reads it, it gets our answer.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from modules import sd_samplers_cfg_denoiser, sd_samplers_common, shared

from lib_gie.hosts.webui.sampling.running import stack

_CONTENT = "live_preview_content"
_PROMPT, _COMBINED = "Prompt", "Combined"

_state = threading.local()


class _AnsweredOptions:
    """The host's options as its denoiser reads them: while something is erased, no preview of the negative prompt."""

    def __init__(self, options: Any):
        object.__setattr__(self, "gie_options", options)

    def __getattr__(self, name: str) -> Any:
        value = getattr(self.gie_options, name)
        return _PROMPT if name == _CONTENT and stack() and value != _COMBINED else value

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self.gie_options, name, value)


@contextmanager
def hidden() -> Iterator[None]:
    """Show nothing that this thread samples within the context while it is made."""
    before = getattr(_state, "hidden", False)
    _state.hidden = True
    try:
        yield
    finally:
        _state.hidden = before


def _store(inner: Callable[..., Any], decoded: Any, *args: Any, **kwargs: Any) -> Any:
    """Stand in for ``store_latent``, which keeps what was sampled last for the previews."""
    if getattr(_state, "hidden", False):
        return None
    if stack() and not _is_answered():  # another denoiser, of which it is unknown what it shows
        return None
    return inner(decoded, *args, **kwargs)


def _is_answered() -> bool:
    return hasattr(vars(sd_samplers_cfg_denoiser).get("opts"), "gie_options")


def wrap_previews(wrap: Callable[..., None]) -> None:
    """Answer the denoiser's option, and wrap ``store_latent``. ``wrap``: replaces a function once (see ``guard``)."""
    if not _is_answered() and hasattr(sd_samplers_cfg_denoiser, "opts"):
        sd_samplers_cfg_denoiser.opts = _AnsweredOptions(shared.opts)
    wrap(sd_samplers_common, "store_latent", _store)
