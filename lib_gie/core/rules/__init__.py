"""Erasing rules: the term that each adds to a layer's output. ``protocol.py`` says what a rule must provide.

This table is all that names them. It loads no rule and no library, so that whoever lists the rules needs neither.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .protocol import ErasingRule

RULES = {
    "growth inhibitors": "growth_inhibitors",
    "value projection": "value_projection",
}
"""By name the module of this package whose ``RULE`` it is. The first is the default."""


def erasing_rule(name: str) -> ErasingRule:
    """Return the rule of this name. Raises KeyError for others; the option table has checked the name before."""
    rule: ErasingRule = importlib.import_module(f".{RULES[name]}", __package__).RULE
    return rule
