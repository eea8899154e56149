"""Erasing rules: the term that each adds to a layer's output. ``protocol.py`` says what a rule must provide.

This table is all that names them. It loads no rule and no library, so that whoever lists the rules needs neither.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from .protocol import ErasingRule


class RuleEntry(NamedTuple):
    """A rule in the table: the module of this package whose ``RULE`` it is, and what it does, for the option's help."""

    module: str
    summary: str


RULES = {
    "growth inhibitors": RuleEntry("growth_inhibitors", "turns the image's attention to the concept against it"),
    "value projection": RuleEntry(
        "value_projection",
        "takes what the prompt's words have in common with the concept out of them: more of the rest is kept, and what "
        "is only implied stays",
    ),
}
"""By name. The first is the default."""


def erasing_rule(name: str) -> ErasingRule:
    """Return the rule of this name. Raises KeyError for others; the option table has checked the name before."""
    rule: ErasingRule = importlib.import_module(f".{RULES[name].module}", __package__).RULE
    return rule
