"""Growth inhibitors: erase a concept from a diffusion model's images while they are made.

``__all__`` is the public interface. Each name is loaded when it is first asked for, so that ``import lib_gie`` loads no
library: the WebUI's start imports it, and has no diffusers, which ``GrowthInhibitors`` needs.

The modules directly in this package are the core: they need torch and know no host.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .adapter import load_adapter
    from .concepts import Concept, parse_concepts
    from .errors import AdapterError, ConceptError, ErasureError, GieError, OptionError, UnsupportedModelError
    from .pipeline import GrowthInhibitors

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
    "GrowthInhibitors": ".pipeline",
    "Concept": ".concepts",
    "parse_concepts": ".concepts",
    "load_adapter": ".adapter",
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
