"""How long an order takes, in words, without any work. This file knows no host."""

from __future__ import annotations

from lib_gie.training.judges import judge_class

from .durations import span
from .pace import ASSUMED, ASSUMED_OF
from .work_order import WorkOrder, amount


def estimate_text(order: WorkOrder, seconds: float | None) -> str:
    """Return how long an order takes and what that rests on. Raises GieError for orders without usable prompts.

    ``seconds``: of one evaluation of the UNet, as measured here; None: nothing was measured.
    """
    work, judge = amount(order), judge_class(order.judge)
    extent = (
        f"{work.least:,} to {work.images:,} images, {work.least_evaluations:,} to {work.evaluations:,} evaluations of "
        f"the UNet"
    )
    each = seconds or 1 / ASSUMED
    takes = span(work.least_evaluations * each, work.evaluations * each)
    if seconds is None:
        text = (
            f"{extent}. How long an evaluation takes here is not measured yet. At {ASSUMED:g} a second, which is "
            f"about what {ASSUMED_OF} does, it is {takes}. The first training measures it, and so does the button "
            f"Measure the pace."
        )
    else:
        text = f"About {takes}: {extent}, and {seconds:.2g} s for each, as was measured here."
    if judge.asks_person:
        text += " The time that you take for your answers is added."
    elif judge.settings:
        text += " The time that the vision model takes for its answers is added."
    return text
