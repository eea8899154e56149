"""Growth inhibitors: erase a concept from a diffusion model's images while they are made.

``__all__`` is the public interface. Each name is loaded when it is first asked for, so that ``import lib_gie`` loads no
library: the WebUI's start imports it, and has no diffusers, which ``GrowthInhibitors`` needs.

The core is in ``lib_gie/core``: it needs torch and knows no host. What samples images is in ``lib_gie/hosts``.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .core.concepts import Concept, parse_concepts
    from .core.scales.adapter import load_adapter
    from .errors import AdapterError, ConceptError, ErasureError, GieError, OptionError, UnsupportedModelError
    from .hosts.diffusers import GrowthInhibitors

__version__ = "0.2.0"

__all__ = [
    "GrowthInhibitors",
    "Concept",
    "parse_concepts",
    "load_adapter",
    "GieError",
    "AdapterError",
    "ConceptError",
    "ErasureError",
    "OptionError",
    "UnsupportedModelError",
    "__version__",
]

_MODULES = {
    "GrowthInhibitors": ".hosts.diffusers",
    "Concept": ".core.concepts",
    "parse_concepts": ".core.concepts",
    "load_adapter": ".core.scales.adapter",
}
"""Where each name comes from; the others, which are errors, from ``.errors``."""


def __getattr__(name: str) -> Any:
    """Load a public name at its first use. Raises AttributeError for others."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(importlib.import_module(_MODULES.get(name, ".errors"), __name__), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
