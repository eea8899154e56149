"""A job's plans in each of its batches: what each of them records, and the composition that it keeps."""

from __future__ import annotations

from collections.abc import Sequence

from lib_gie.core.composition import Composition, Trace
from lib_gie.core.recorder import AttentionRecorder
from lib_gie.errors import ErasureError
from lib_gie.hosts.webui.host.contract import Processing
from lib_gie.hosts.webui.host.other_extensions import check_own_calls
from lib_gie.hosts.webui.request.plan import Plan, PlanInBatch

PRESENCE_EVERY, PRESENCE_PIXELS = 4, 16 * 16
"""How strongly a concept is present is always recorded: in every fourth step, in layers of at most 256 pixels."""


class PlansInBatches:
    """The plans of a job of ``p`` in its batches. ``recorders``: of what was erased, by plan and batch."""

    def __init__(self, p: Processing, plans: Sequence[Plan]):
        self._p, self._plans = p, tuple(plans)
        self.recorders: dict[tuple[int, int], AttentionRecorder] = {}
        self._traces: dict[int, Trace] = {}  # by plan, of the batch's images without erasure

    def watching(self, of: Processing) -> list[PlanInBatch]:
        """Return the plans for images without what the user wants erased.

        ``of``: whose batch it is. That is another object where an extension samples one within the job.
        """
        return [self._watching(number, plan, of is self._p) for number, plan in enumerate(self._plans)]

    def erased(self, of: Processing) -> list[PlanInBatch]:
        """Return the plans for images that are erased from. ``of``: see ``watching``. Raises ErasureError."""
        return [self._erased(number, plan, of) for number, plan in enumerate(self._plans)]

    def _watching(self, number: int, plan: Plan, is_jobs: bool) -> PlanInBatch:
        if plan.enforced:
            return PlanInBatch(plan)
        if not (plan.wants_unerased and is_jobs):
            return PlanInBatch(plan, is_unerased=True)
        self._traces[number] = Trace()
        return PlanInBatch(plan, is_unerased=True, trace=self._traces[number])

    def _erased(self, number: int, plan: Plan, of: Processing) -> PlanInBatch:
        check_own_calls(of, plan.request)
        request, trace = plan.request, self._traces.pop(number, None) if of is self._p else None
        recorder = AttentionRecorder() if request.show_attention else AttentionRecorder(PRESENCE_EVERY, PRESENCE_PIXELS)
        if of is self._p:
            self.recorders[number, getattr(of, "iteration", 0)] = recorder
        if not plan.wants_unerased:
            return PlanInBatch(plan, recorder=recorder)
        if trace is None:
            raise ErasureError(
                "the images without erasure, whose composition is to be kept, were not made: another extension samples "
                "in its own way. Switch it off, or do not keep the composition"
            )
        composition = Composition(trace, request.composition_cross, request.composition_self)
        return PlanInBatch(plan, recorder=recorder, composition=composition)
