"""Growth inhibitors on a diffusers pipeline: outside the WebUI, for the demo, tests, training and evaluation.

Each name is loaded when it is first asked for, as in ``lib_gie``: what only looks at files does without diffusers.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .growth_inhibitors import GrowthInhibitors
    from .loading import load_pipeline

__all__ = ["GrowthInhibitors", "load_pipeline"]

_MODULES = {"GrowthInhibitors": ".growth_inhibitors", "load_pipeline": ".loading"}


def __getattr__(name: str) -> Any:
    """Load a public name at its first use. Raises AttributeError for others."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(importlib.import_module(_MODULES[name], __name__), name)
    globals()[name] = found
    return found
