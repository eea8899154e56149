"""Where the fields stand, and when: what javascript/growth_inhibitors.js is told of it.

All of them are always part of the page, and what is hidden is sent like the rest. So a hidden field is one that has no
effect as the others are set.
"""

from __future__ import annotations

import html
import json
from typing import Any

from lib_gie.options import BY_NAME, FIXED, HIRES_PASSES, OPTIONS

HEADER = "Erase concepts (Growth Inhibitors)"

SIMPLE = ("strength", "adapter", "scale")
"""The options that stay in sight beside the concepts."""

ADVANCED = (
    ("start", "end"),
    ("rule", "concept_pass", "hires"),
    ("keep_composition",),
    ("composition_cross", "composition_self"),
    ("show_before", "show_attention"),
)
"""The options of the part that is closed at first, by rows."""

_SHOWN_WITH: dict[str, tuple[str, Any]] = {
    "scale": ("adapter", FIXED),
    "composition_cross": ("keep_composition", True),
    "composition_self": ("keep_composition", True),
}
"""By option another one and its value: with any other value the option is hidden."""


def is_without_effect(name: str, is_img2img: bool) -> bool:
    """Tell whether an option never has an effect in a tab: img2img has no Hires. fix."""
    return is_img2img and name == "hires"


def _condition(name: str, tab: str) -> dict[str, Any] | None:
    """Return the field that decides whether an option is shown, and its value then; None: it is always shown.

    ``unless``: a value of the option itself with which it is shown in any case, because it then has an effect.
    """
    if name == "hires":
        return {"field": f"{tab}_hr-checkbox", "value": True, "unless": HIRES_PASSES[2]}
    if name not in _SHOWN_WITH:
        return None
    other, value = _SHOWN_WITH[name]
    return {"field": f"gie_{tab}_{other}", "value": value}


def page_data(tab: str) -> str:
    """Return what the page's script is told, as HTML: help, conditions and defaults by the field's elem_id.

    The texts are elements of their own, so that screen readers can be pointed at them and the WebUI can translate them.
    """
    prefix = f"gie_{tab}"
    helps = "".join(f"<span id='{prefix}_{option.name}_help'>{html.escape(option.help)}</span>" for option in OPTIONS)
    advanced = [name for row in ADVANCED for name in row]
    data = {
        "fields": [f"{prefix}_{option.name}" for option in OPTIONS],
        "conditions": {
            f"{prefix}_{option.name}": found for option in OPTIONS if (found := _condition(option.name, tab))
        },
        "advanced": {f"{prefix}_{name}": [BY_NAME[name].label, BY_NAME[name].default] for name in advanced},
    }
    return f"<div data-page='{html.escape(json.dumps(data), quote=True)}'>{helps}</div>"
