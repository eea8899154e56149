"""A plan says what is to be erased from a job's images; a plan in a batch, how far that has come."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from modules import shared

from lib_gie.core.scales.adapter import Adapter
from lib_gie.core.scales.calibrated import Calibration
from lib_gie.core.scales.fitted import Fitted
from lib_gie.core.scales.scale_rules import FixedScale, Guarded, ScaleRule
from lib_gie.hosts.webui.host.model import clip_skip, weights_of

from .beyond import factor
from .infotext import ScaleSource
from .parsing import Request

if TYPE_CHECKING:
    from lib_gie.core.call import Size
    from lib_gie.core.composition import Composition, Trace
    from lib_gie.core.erasure import Erasure
    from lib_gie.core.kept_answers import KeptAnswers
    from lib_gie.core.readings import AsText
    from lib_gie.core.recorder import AttentionRecorder
    from lib_gie.core.rows import RowLedger
    from lib_gie.hosts.protocol import SamplingHost

_PASSES = {"both": (False, True), "first only": (False,), "second only": (True,)}  # of p.is_hr_pass


@dataclass(frozen=True)
class Plan:
    """A request with, for each of its concepts, the rule for its scale (``rules``) and that rule's name (``sources``).

    ``enforced``: it is the admin's request, not the user's. ``notes``: what the user is told under the image.
    ``floor``: no concept's scale is weaker; 0: there is none. ``base``: the model family that the rules are for.
    """

    request: Request
    rules: tuple[ScaleRule, ...]
    sources: tuple[ScaleSource, ...]
    enforced: bool = False
    notes: tuple[str, ...] = ()
    floor: float = 0.0
    base: str = ""

    @property
    def sizes(self) -> set[Size]:
        """The sizes of latents at which its rules read what is predicted."""
        readings = [reading for rule in self.rules for reading in rule.readings]
        return {reading.size for reading in readings if reading.predicted and reading.size is not None}

    def factor(self, size: Size, guidance: float, is_plain: bool) -> float:
        """Return what w is multiplied by in an image; a user's never is. See ``beyond.factor``."""
        if not self.enforced:
            return 1.0
        with_inversion = not all(concept.literal for concept in self.request.concepts)
        return factor(self.rules, self.base, size, guidance, with_inversion, is_plain)

    @property
    def wants_unerased(self) -> bool:
        """True if the plan needs the same images without erasure. An admin's concepts are erased from those, too."""
        return not self.enforced and self.request.keep_composition

    def new_erasure(
        self,
        host: SamplingHost,
        before: Erasure | None,
        unerased: bool,
        changed: bool,
        as_text: AsText | None,
        **options: Any,
    ) -> Erasure:
        """Make an erasure with concepts encoded by ``host``, the model as it is now.

        ``before``: the erasure that it goes on from. ``unerased``: it is to erase nothing, only to watch. ``changed``:
        whether ``before`` was made for another model, pass or set of networks. ``as_text``: makes the calls that
        calibrations are read in; None where these cannot be made. ``options``: ledger, recorder, trace or composition.
        """
        from lib_gie.core.erasure import (  # loads all that erases: the WebUI's start is not to wait for it
            Erasure,
            Target,
        )

        request = self.request
        targets = [
            Target(host.encode(concept), *((FixedScale(0.0),) if unerased else (rule, self.floor)))
            for concept, rule in zip(request.concepts, self._rules_now(as_text is not None), strict=True)
        ]
        settings = replace(request.settings, concept_pass="fused") if unerased else request.settings
        erasure = Erasure(targets, settings, as_text=as_text, **options)
        if before is not None:
            erasure.go_on_from(before, changed)
        return erasure

    def _rules_now(self, reads_text: bool) -> tuple[ScaleRule, ...]:
        """Return the rules for the model and the clip skip that are there now: both may change while the job runs.

        On another checkpoint, such as a refiner, a calibration knows nothing, so its strength counts in full. So it
        does where prompts cannot be read by themselves (not ``reads_text``).
        """
        return tuple(_rule_now(rule, reads_text) for rule in self.rules)

    def replacement_notes(self, erasure: Erasure) -> list[str]:
        """Say, of an erasure that is done, where an adapter's answer was not enough.

        Users are not told of what an admin enforces: it would tell how to get round it.
        """
        found = []
        for k, concept in enumerate(self.request.concepts):
            told = dict.fromkeys(erasure.replacements(row)[k] for row in erasure.scales)
            found += [f"for {concept.text!r} {text}" for text in filter(None, told)]
        return found


def _rule_now(rule: ScaleRule, reads_text: bool) -> ScaleRule:
    if not isinstance(rule, Guarded):
        return rule
    now, adapter = rule.at_clip_skip(clip_skip()), rule.adapter
    if isinstance(adapter, Adapter) and adapter.narrow is not None and not (reads_text or adapter.cautious):
        return Guarded(adapter.narrow, now.fixed, now.unlike)
    says_nothing = _is_elsewhere(adapter) or (_reads_what_is_predicted(adapter) and not reads_text)
    return FixedScale(now.unknown) if says_nothing or (rule.is_strict and now is not rule) else now


def _reads_what_is_predicted(adapter: Fitted) -> bool:
    """Tell whether it reads what the UNet predicts, which must be for the prompt's text alone."""
    return any(reading.predicted for reading in adapter.readings)


def _is_elsewhere(adapter: Fitted) -> bool:
    """Tell whether a calibration was made on another checkpoint than the one that samples now."""
    return isinstance(adapter, Calibration) and adapter.info.weights != weights_of(shared.sd_model)


@dataclass(eq=False)
class PlanInBatch:
    """One plan's progress in a batch. ``is_unerased``: its concepts are watched and not erased.

    ``steps``: how many denoiser calls were announced to ``erasure``.
    """

    plan: Plan
    is_unerased: bool = False
    recorder: AttentionRecorder | None = None
    trace: Trace | None = None
    composition: Composition | None = None
    erasure: Erasure | None = None
    steps: int = 0

    def applies(self, p: Any) -> bool:
        """Tell whether the pass that runs now (the first or that of Hires. fix) is to be erased from."""
        if not hasattr(p, "enable_hr"):  # img2img has no second pass, so its only one is erased from
            return True
        return bool(getattr(p, "is_hr_pass", False)) in _PASSES[self.plan.request.hires]

    def renew(
        self,
        host: SamplingHost,
        ledger: RowLedger,
        changed: bool,
        answers: KeptAnswers | None = None,
        as_text: AsText | None = None,
    ) -> Erasure:
        """Make the erasure anew, with concepts encoded by the model as it is now.

        Scales that are known get no weaker. They are read again where model, pass or networks have ``changed``.
        ``answers``: what was read of prompts by the same model. ``as_text``: see ``Plan.new_erasure``.
        """
        self.check()
        self.erasure = self.plan.new_erasure(
            host, self.erasure, self.is_unerased, changed, as_text,
            ledger=ledger, recorder=self.recorder, trace=self.trace, composition=self.composition, answers=answers,
        )  # fmt: skip
        self.steps = 0
        return self.erasure

    def check(self) -> None:
        """Raise ErasureError where announced rows were never seen, or where a UNet call was refused."""
        if self.erasure is not None and (self.steps or self.erasure.ledger.refusal is not None):
            self.erasure.finish()
