"""What is asked of a processing object: by itself, or by what it runs in."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from lib_gie.hosts.webui.request.asked import own_request
from lib_gie.hosts.webui.request.parsing import Request

from .running import stack

_ambient = threading.local()


@contextmanager
def within_script(p: Any) -> Iterator[None]:
    """Run a selected script within the context. Processing objects that it makes inherit what ``p`` asks for."""
    before = getattr(_ambient, "request", None), is_in_script()
    _ambient.request, _ambient.in_script = request_of(p), True
    try:
        yield
    finally:
        _ambient.request, _ambient.in_script = before


def is_in_script() -> bool:
    """Tell whether a selected script runs in this thread."""
    return getattr(_ambient, "in_script", False)


def request_of(p: Any) -> Request | None:
    """Return what is asked of ``p``: its own request, else that of what it runs in (another generation, a script).

    None where it runs in a generation that makes images without erasure. Raises OptionError or ConceptError for what
    cannot be understood.
    """
    if stack() and stack()[-1].is_unerased:
        return None
    own = own_request(p)
    if own is not None:
        return own
    around: Request | None = stack()[-1].request if stack() else getattr(_ambient, "request", None)
    return around
