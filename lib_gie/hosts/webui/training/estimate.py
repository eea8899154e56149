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
    takes = work.time_text(seconds or 1 / ASSUMED)
    if seconds is None:
        text = (
            f"It takes {takes}, if this machine makes {ASSUMED:g} evaluations of the UNet in a second, as {ASSUMED_OF} "
            f"does. How many it makes is not measured yet: the first training does that, and so does the button "
            f"Measure the pace."
        )
    else:
        text = f"It takes {takes}, by {seconds:.2g} s for an evaluation of the UNet as measured here."
    return f"{text} Images to make: {work.images_text}.{uncounted_text(judge_class(order.judge))}"
