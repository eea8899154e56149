"""How long an order takes, in words, without any work. This file knows no host."""

from __future__ import annotations

from lib_gie.training.judges import judge_class
from lib_gie.training.work import uncounted_text

from .pace import ASSUMED, ASSUMED_OF
from .work_order import WorkOrder, amount


def estimate_text(order: WorkOrder, seconds: float | None) -> str:
    """Return how long an order takes and what that rests on. Raises GieError for orders without usable prompts.

    ``seconds``: of one evaluation of the UNet, as measured here; None: nothing was measured.
    """
    work = amount(order)
    takes = f"Time: {work.time_text(seconds or 1 / ASSUMED)}. Images to make: {work.images_text}."
    uncounted = uncounted_text(judge_class(order.judge))
    if seconds is not None:
        return f"{takes} The time is by {seconds:.2g} s for an evaluation of the UNet, as measured here.{uncounted}"
    return (
        f"{takes} The time is that of a machine that makes {ASSUMED:g} evaluations of the UNet in a second, as "
        f"{ASSUMED_OF} does. How many this one makes is not measured yet: the first training does that, and so does "
        f"the button Measure the pace.{uncounted}"
    )
