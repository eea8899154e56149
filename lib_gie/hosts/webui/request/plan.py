"""What is to be erased from a job's images, and how far that has come in the batch that is made now."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from modules import shared

from lib_gie.core.composition import Composition, Trace
from lib_gie.core.erasure import Erasure, Target
from lib_gie.core.recorder import AttentionRecorder
from lib_gie.core.rows import RowLedger
from lib_gie.core.scales.rules import FixedScale, Guarded, ScaleRule
from lib_gie.hosts.protocol import SamplingHost

from .infotext import Rule
from .parsing import Request

_PASSES = {"both": (False, True), "first only": (False,), "second only": (True,)}  # of p.is_hr_pass


@dataclass(frozen=True)
class Plan:
    """A request and, for each of its concepts, the rule for its scale and that rule's description.

    ``enforced``: the admin's request, not the user's. ``notes``: what the user is told under the image. ``floor``: no
    concept's scale is weaker.
    """

    request: Request
    rules: tuple[ScaleRule, ...]
    described: tuple[Rule, ...]
    enforced: bool = False
    notes: tuple[str, ...] = ()
    floor: float = 0.0

    @property
    def wants_twin(self) -> bool:
        """Whether the same images without erasure are needed. What an admin enforces is erased from those, too."""
        return not self.enforced and self.request.keep_composition

    def new_erasure(
        self, host: SamplingHost, before: Erasure | None, without: bool, changed: bool, **options: Any
    ) -> Erasure:
        """Make an erasure with concepts encoded by ``host``, the model as it is now.

        ``before``: the erasure that it goes on from. ``without``: erases nothing, and only watches. ``changed``:
        whether the model, its networks or the pass are others than those that ``before`` was made for. ``options``:
        ledger, recorder, trace or composition.
        """
        request = self.request
        targets = [
            Target(host.encode(concept), *((FixedScale(0.0),) if without else (rule, self.floor)))
            for concept, rule in zip(request.concepts, self._rules_now(), strict=True)
        ]
        settings = replace(request.settings, concept_pass="fused") if without else request.settings
        erasure = Erasure(targets, settings, **options)
        if before is not None:
            erasure.go_on_from(before, changed)
        return erasure

    def _rules_now(self) -> tuple[ScaleRule, ...]:
        """Return the rules for the clip skip that prompts are encoded with now: it may change while the job runs."""
        layers = getattr(shared.opts, "CLIP_stop_at_last_layers", None)
        return tuple(rule.at_clip_skip(layers) if isinstance(rule, Guarded) else rule for rule in self.rules)

    def doubts(self, erasure: Erasure) -> list[str]:
        """Say, of an erasure that is done, where an adapter's answer was not enough.

        Nothing is said of what an admin enforces: it would tell how to get round it.
        """
        if self.enforced:
            return []
        found = []
        for k, (concept, rule) in enumerate(zip(self.request.concepts, self._rules_now(), strict=True)):
            reasons = dict.fromkeys(erasure.doubts(row)[k] for row in erasure.scales)
            found += [
                f"for {concept.text!r} the fixed scale {rule.fixed:g} took the place of the adapter's weaker answer: "
                f"{reason}"
                for reason in filter(None, reasons)
                if isinstance(rule, Guarded)
            ]
        return found


@dataclass(eq=False)
class PlanInBatch:
    """How far a plan has come in a batch. ``without``: its concepts are not erased, only watched."""

    plan: Plan
    without: bool = False
    recorder: AttentionRecorder | None = None
    trace: Trace | None = None
    composition: Composition | None = None
    erasure: Erasure | None = None
    steps: int = 0

    def applies(self, p: Any) -> bool:
        """Whether the pass that runs now (first or of Hires. fix) is to be erased from."""
        if not hasattr(p, "enable_hr"):  # img2img has no second pass, so its only one is erased from
            return True
        return bool(getattr(p, "is_hr_pass", False)) in _PASSES[self.plan.request.hires]

    def renew(self, host: SamplingHost, ledger: RowLedger, changed: bool) -> Erasure:
        """Encode for the model as it is now. Scales that are known get no weaker, and are read again if it changed."""
        self.check()
        self.erasure = self.plan.new_erasure(
            host, self.erasure, self.without, changed,
            ledger=ledger, recorder=self.recorder, trace=self.trace, composition=self.composition,
        )  # fmt: skip
        self.steps = 0
        return self.erasure

    def check(self) -> None:
        """Raise ErasureError where announced rows were never seen, and what a UNet call was refused for."""
        if self.steps or (self.erasure is not None and self.erasure.ledger.refusal is not None):
            self.erasure.finish()
