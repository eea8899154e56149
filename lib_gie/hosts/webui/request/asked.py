"""Reads and sets what is asked of a processing object ``p``: by the accordion or the API, X/Y/Z axes, training."""

from __future__ import annotations

from typing import Any

from .parsing import Request, read_request
from .plan import Plan

_OVERRIDES = "gie_overrides"  # attribute of p: option values by name
_PLAN = "gie_plan"  # attribute of p


def override(p: Any, name: str, value: Any) -> None:
    """Have ``p`` erase with this value of an option, whatever its arguments say: an X/Y/Z axis does so."""
    setattr(p, _OVERRIDES, {**getattr(p, _OVERRIDES, {}), name: value})


def own_request(p: Any) -> Request | None:
    """Return what the accordion, the API or an axis asks of this very ``p``; None where nothing is to be erased.

    Raises OptionError or ConceptError for what cannot be understood.
    """
    runner = getattr(p, "scripts", None)
    mine = [script for script in getattr(runner, "alwayson_scripts", ()) if getattr(script, "erases_concepts", False)]
    args = (getattr(p, "script_args", None) or ())[mine[0].args_from : mine[0].args_to] if mine else ()
    return read_request(args, getattr(p, _OVERRIDES, None))


def switch_off(p: Any) -> None:
    """Have ``p``, which the page has made, ask for nothing to be erased, and likewise what is made of it."""
    args = list(getattr(p, "script_args", None) or ())
    for script in getattr(getattr(p, "scripts", None), "alwayson_scripts", ()):
        if getattr(script, "erases_concepts", False):
            args[script.args_from : script.args_to] = [False] + [None] * (script.args_to - script.args_from - 1)
    p.script_args = args
    vars(p).pop(_OVERRIDES, None)


def give_plan(p: Any, plan: Plan) -> None:
    """Have ``p`` carry out a plan that is made already: training does so."""
    setattr(p, _PLAN, plan)


def given_plans(p: Any) -> list[Plan]:
    """Return the plan that ``p`` was given, in a list that is empty where there is none."""
    return [getattr(p, _PLAN)] if hasattr(p, _PLAN) else []
