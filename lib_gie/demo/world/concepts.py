"""The concepts that are erased from the demo model's images: things and styles."""

from __future__ import annotations

from .styles import NAMED_STYLES, STYLES
from .things import UNWANTED

STYLE_OF = {STYLES[style].phrase: style for style in NAMED_STYLES}
"""The key of each style that can be erased, by its name in prompts."""

CONCEPTS = (*UNWANTED, *STYLE_OF)
"""The texts of all concepts."""
