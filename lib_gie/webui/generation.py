"""One ``process_images`` call that erases: hooks on whatever model samples, rows for every denoiser call."""

from __future__ import annotations

import functools
import sys
import threading
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from modules import shared

from ..call import UNetCall
from ..checks import quoted
from ..composition import Composition, Trace
from ..erasure import Erasure, Target
from ..errors import ErasureError
from ..handles import take_off
from ..rows import Identities, Name, RowLedger
from ..scale import FixedScale, Guarded, PromptFacts, ScaleRule
from ..session import attach, is_inner_call
from ..statistics import AttentionRecorder
from . import forge, others
from .encodings import encodings
from .infotext import Rule
from .model import find_unet, unet_of
from .prompts import Mode, facts_of, reading_of
from .request import TITLE, Request
from .step_rows import conditional_rows

PRESENCE_EVERY, PRESENCE_PIXELS = 4, 16 * 16
"""How strongly a concept is present is always recorded, in so few steps and small layers that it costs nothing."""

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
        self, p: Any, model: Any, before: Erasure | None, without: bool, changed: bool, **options: Any
    ) -> Erasure:
        """Make an erasure with concepts encoded by the model as it is now, for ``p``.

        ``before``: the erasure that it goes on from. ``without``: erases nothing, and only watches. ``changed``:
        whether the model, its networks or the pass are others than those that ``before`` was made for. ``options``:
        ledger, recorder, trace or composition.
        """
        request = self.request
        targets = [
            Target(encodings.encode(concept, model, p), *((FixedScale(0.0),) if without else (rule, self.floor)))
            for concept, rule in zip(request.concepts, self._rules_now(), strict=True)
        ]
        erasure = Erasure(
            targets,
            strength=request.strength,
            start=request.start,
            end=request.end,
            concept_pass="fused" if without else request.concept_pass,
            **options,
        )
        if before is not None:
            erasure.go_on_from(before, changed)
        return erasure

    def _rules_now(self) -> tuple[ScaleRule, ...]:
        """Return the rules for the clip skip that prompts are encoded with now: it may change while the job runs."""
        layers = getattr(shared.opts, "CLIP_stop_at_last_layers", None)
        return tuple(rule.at_clip_skip(layers) if isinstance(rule, Guarded) else rule for rule in self.rules)

    def doubts(self, erasure: Erasure) -> list[str]:
        """What the user is told of an erasure that is done: where an adapter's answer was not enough.

        Nothing of what an admin enforces: it would tell how to get round it.
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


def _active_hypernetworks() -> tuple:
    """Return the hypernetworks that the WebUI sends prompts through now, with their strengths."""
    active = getattr(shared, "loaded_hypernetworks", None) or ()
    return tuple((id(one), getattr(one, "name", None), *_strengths(one)) for one in active)


def _strengths(hypernetwork: Any) -> tuple:
    """Return a hypernetwork's strength in each layer; the WebUI sets them whenever a prompt asks for one."""
    layers = getattr(hypernetwork, "layers", None) or {}
    return tuple(getattr(layer, "multiplier", None) for pair in layers.values() for layer in pair)


def _active_loras() -> tuple:
    """Return the LoRAs that the WebUI's own extension puts into the weights now, with their strengths."""
    active = getattr(sys.modules.get("networks"), "loaded_networks", None) or ()
    strengths = "name", "te_multiplier", "unet_multiplier", "dyn_dim"
    return tuple(tuple(getattr(one, part, None) for part in strengths) for one in active)


@dataclass(eq=False)
class _Progress:
    """How far one plan has come in the current batch. ``without``: its concepts are not erased, only watched."""

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

    def renew(self, p: Any, model: Any, ledger: RowLedger, changed: bool) -> Erasure:
        """Encode for the model as it is now. Scales that are known get no weaker, and are read again if it changed."""
        self.check()
        self.erasure = self.plan.new_erasure(
            p, model, self.erasure, self.without, changed,
            ledger=ledger, recorder=self.recorder, trace=self.trace, composition=self.composition,
        )  # fmt: skip
        self.steps = 0
        return self.erasure

    def check(self) -> None:
        """Raise ErasureError where announced rows were never seen, and what a UNet call was refused for."""
        if self.steps or (self.erasure is not None and self.erasure.ledger.refusal is not None):
            self.erasure.finish()


def is_stopped() -> bool:
    """Whether the user has had enough of the batch that is being made, or of the whole job."""
    return bool(shared.state.interrupted or shared.state.skipped)


class Generation:
    """What is to be erased from the images of one processing object ``p``, and how far that has come."""

    def __init__(self, p: Any, plans: Sequence[Plan], request: Request | None = None, gallery: Any = None):
        """``request``: the user's, which nested generations inherit; ``gallery``: collects what is shown beside."""
        self.p = p
        self.request, self.gallery = request, gallery
        self.plans = tuple(plans)
        self.failure: BaseException | None = None
        self.nested_failure: BaseException | None = None  # of a generation within this one, which a script may swallow
        self._progress: list[_Progress] = []
        self._attached = ExitStack()
        self._ledger = RowLedger()
        self._unet: torch.nn.Module | None = None
        self._denoiser: Any = None
        self._tiled = False
        self._step: forge.Step | None = None  # where the host orders a step's rows itself
        self._state: tuple = ()  # what the encodings were made for, and the scales read with
        self._clip_skip: Any = None  # at which the concepts were encoded
        self._facts: tuple[Any, list[PromptFacts]] = (None, [])  # of each image's prompt, and of what they were made
        self._done: set[int] = set()  # plans that have erased from at least one step
        self._kept: dict[tuple[int, int], dict[int, list]] = {}  # by plan and batch: scales by image
        self._traces: dict[int, Trace] = {}  # by plan, of the batch's images without erasure
        self.recorders: dict[tuple[int, int], AttentionRecorder] = {}  # by plan and batch
        self.batches = 0
        self.without = False  # what runs now makes images without what the user wants erased
        self.left_out: set[int] = set()  # batches that were stopped before anything was erased from them
        self._pictures = 0  # of the job, up to now
        self._put_aside: dict[str, Any] = {}

    # -- a batch ------------------------------------------------

    @property
    def wants_twin(self) -> bool:
        """Whether every batch is made without erasure, too."""
        return any(plan.wants_twin for plan in self.plans) or bool(self.gallery and self.gallery.before)

    def sample(self, inner: Callable[[], Any], without: bool = False) -> Any:
        """Return what ``inner`` does; it has been erased from (``without``: by the admin's wishes alone), or raise."""
        self.begin_batch(without)
        try:
            result = inner()
            self.end_batch()
            return result
        finally:
            self.detach()

    @contextmanager
    def unerased(self) -> Iterator[None]:
        """Erase nothing that the user asks for within the context, also in generations that run within this one."""
        before, self.without = self.without, True
        try:
            yield
        finally:
            self.without = before

    def begin_batch(self, without: bool = False) -> None:
        """Prepare a batch before ``p.sample``: extra networks are active, nothing is sampled yet.

        ``without``: what is sampled now are the same images without what the user wants erased.
        """
        self.failure, self._done = None, set()
        self._progress = [
            self._twin(number, plan) if without else self._erased(number, plan)
            for number, plan in enumerate(self.plans)
        ]
        self.batches += not without
        self._denoiser = self._step = None
        self._attach()

    def _twin(self, number: int, plan: Plan) -> _Progress:
        if plan.enforced:
            return _Progress(plan)
        if plan.wants_twin:
            self._traces[number] = Trace()
        return _Progress(plan, without=True, trace=self._traces.get(number))

    def _erased(self, number: int, plan: Plan) -> _Progress:
        others.check_own_calls(self.p, plan.request)
        request, trace = plan.request, self._traces.pop(number, None)
        recorder = AttentionRecorder() if request.show_attention else AttentionRecorder(PRESENCE_EVERY, PRESENCE_PIXELS)
        self.recorders[number, getattr(self.p, "iteration", 0)] = recorder
        if plan.wants_twin and trace is None:
            raise ErasureError(
                "the images without erasure, whose composition is to be kept, were not made: another extension samples "
                "in its own way. Switch it off, or do not keep the composition"
            )
        shares = (request.composition_cross, request.composition_self)
        return _Progress(plan, recorder=recorder, composition=Composition(trace, *shares) if plan.wants_twin else None)

    def end_batch(self) -> None:
        """Raise, after ``p.sample``, unless every step of the chosen passes was erased from.

        A batch that was stopped may have had no step at all: see ``is_erased``.
        """
        self._keep_scales()
        self.check()
        self._tell_doubts()
        if is_stopped():
            return
        for number, progress in enumerate(self._progress):
            if number not in self._done:
                raise ErasureError(self._nothing_done(progress.plan.request))

    def check(self) -> None:
        """Raise what was refused, here or in a generation within this one, whether or not somebody swallowed it."""
        for failure in (self.failure, self.nested_failure):
            if failure is not None:
                raise failure
        for progress in self._progress:
            progress.check()

    def _tell_doubts(self) -> None:
        """Say under the images where a fixed scale took the place of an adapter's answer."""
        for progress in self._progress:
            if not progress.without and progress.erasure is not None:
                for doubt in progress.plan.doubts(progress.erasure):
                    self.p.comment(f"{TITLE}: {doubt}")

    @property
    def is_erased(self) -> bool:
        """Whether everything has been erased from what was sampled last, as far as that has come."""
        return all(number in self._done for number, _ in enumerate(self._progress))

    @property
    def has_failed(self) -> bool:
        """Whether the request ends with an error."""
        return self.failure is not None or self.nested_failure is not None

    def leave_out(self) -> None:
        """Leave out the batch that is being made: it was stopped before anything was erased from it."""
        self.put_aside("do_not_save_grid")
        self.left_out.add(self.p.iteration)

    @property
    def is_left_out(self) -> bool:
        """Whether nothing of the batch that is being made is to be seen."""
        return getattr(self.p, "iteration", 0) in self.left_out

    def count(self, pictures: int) -> None:
        """Add a batch's images to the job's. Where no batch has any the host has nothing to make its grid of."""
        self._pictures += pictures
        if self.left_out:
            self.p.do_not_save_grid = self._put_aside["do_not_save_grid"] or not self._pictures

    def put_aside(self, name: str) -> None:
        """Remember an attribute of ``p``, which is to be after the job what it is now."""
        self._put_aside.setdefault(name, getattr(self.p, name, None))

    def end(self) -> None:
        """Put back, after the job, what was put aside."""
        for name, value in self._put_aside.items():
            setattr(self.p, name, value)

    def _nothing_done(self, request: Request) -> str:
        if (request.start, request.end) != (0.0, 1.0):
            return (
                f"none of the sampling's steps lies between start {request.start:g} and end {request.end:g}, so "
                f"nothing was erased; make more steps, or widen the range"
            )
        if request.hires != "both":
            return (
                f"only the {request.hires.split()[0]} pass of Hires. fix is to be erased from, and there was none, so "
                f"nothing was erased; set the Hires. fix pass to both"
            )
        return (
            "no sampling step reached growth inhibitors, so nothing was erased; another extension samples in its own "
            "way: switch it off"
        )

    def detach(self) -> None:
        """Take all hooks off; the next denoiser call puts them on again."""
        self._attached.close()
        self._unet = None

    # -- a step ------------------------------------------------

    def on_step(self, params: Any) -> None:
        """The WebUI's cfg_denoiser callback, which swallows exceptions: they are kept and raised in the UNet call."""
        if self.failure is not None or not self.plans:
            return
        try:
            if not self._progress:
                self.begin_batch()  # something replaced p.sample
            self._announce(params)
        except BaseException as error:  # whatever it is, the image must not come out
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        self.failure = error
        self._attached.close()

        def raise_failure(module, args):
            raise error

        unet = find_unet(shared.sd_model)
        if unet is not None:
            self._attached.callback(take_off, unet, unet.register_forward_pre_hook(raise_failure))

    def _current(self) -> tuple:
        """Return what encodings and scales depend on; they are made again when it changes.

        The UNet, the weights in it (a refiner of its kind takes it over), the pass, and the networks that are active.
        What is written to the UNet's weights the hooks see by themselves.
        """
        model = shared.sd_model
        return (
            unet_of(model),
            getattr(model, "sd_checkpoint_info", None),
            bool(getattr(self.p, "is_hr_pass", False)),
            _active_hypernetworks(),
            _active_loras(),
        )

    def _announce(self, params: Any) -> None:
        denoiser = params.denoiser
        if self._unet is None or self._current() != self._state or self._denoiser not in (None, denoiser):
            self._attach()
            forge.bring_unet_back(shared.sd_model, params.x)
        self._denoiser = denoiser
        rows, identify = self._rows(params)
        facts = self._facts_by_row(rows)
        done = min(1.0, denoiser.step / max(1, denoiser.total_steps))
        if any(progress.applies(self.p) for progress in self._progress):
            self._ledger.begin(rows, identify)
        for number, progress in enumerate(self._progress):
            if progress.applies(self.p):
                progress.erasure.facts.update(facts)
                progress.erasure.begin_step(done)
                progress.steps += 1
                if progress.erasure.injects or progress.without:
                    self._done.add(number)
        if not self._tiled and others.makes_tiles(denoiser, shared.sd_model):
            self._watch_tiles(denoiser)

    def _rows(self, params: Any) -> tuple[list[Name], Callable[[], Identities] | None]:
        """Return the names of a denoiser call's rows, and by what the ledger tells them apart.

        On Forge the rows cannot be told apart: there ``_order`` asks each UNet call for its rows.
        """
        if forge.is_here():
            self._step = forge.Step(params.denoiser, params.x.shape[0])
            return self._step.rows, None
        rows = conditional_rows(params.denoiser, params.x.shape[0])
        others.check_order(self.p, rows.names)
        return rows.names, functools.partial(rows.identities, params)

    def _facts_by_row(self, rows: Sequence[Name]) -> dict[Hashable, PromptFacts]:
        """Return what the prompts of this pass say, by row. A row that is left out counts as naming every concept."""
        p, reading = self.p, reading_of(self._denoiser)
        if reading is not None and reading.clip_skip != self._clip_skip:
            raise ErasureError(
                f"the prompt was read at clip skip {quoted(reading.clip_skip)} and the concepts at "
                f"{quoted(self._clip_skip)}: somebody has changed it meanwhile. Make the image again"
            )
        second = bool(getattr(p, "is_hr_pass", False)) and getattr(p, "hr_prompts", None)
        prompts = tuple(second or getattr(p, "prompts", None) or ())
        steps = getattr(p, "steps", None) or 1
        steps = steps, getattr(p, "hr_second_pass_steps", None) or steps
        made_of = prompts, steps, reading or Mode.now()
        if self._facts[0] != made_of:
            concepts = [concept for plan in self.plans for concept in plan.request.concepts]
            each = {text: facts_of(text, concepts, shared.sd_model, *steps, reading) for text in dict.fromkeys(prompts)}
            self._facts = made_of, [each[text] for text in prompts]
        found = self._facts[1]
        return {row: found[row[0]] for row in rows if row is not None and row[0] < len(found)}

    def _order(self, unet: torch.nn.Module, args: tuple, kwargs: dict) -> None:
        """Order the rows of a UNet call: a pre-hook ahead of the erasures' own."""
        if self._step is None or is_inner_call():
            return
        with self._ledger.refusals_kept():
            self._ledger.bring_forward(self._step.rows_of_call(kwargs, UNetCall(args, kwargs).batch))

    def _attach(self) -> None:
        """Put hooks on the model and for the pass that run now, with concepts encoded anew."""
        self._attached.close()
        self._clip_skip = getattr(shared.opts, "CLIP_stop_at_last_layers", None)
        before, self._state = self._state, self._current()
        self._unet, self._tiled = self._state[0], False
        ledger = RowLedger()  # of a model and pass; that of the one before is checked as its erasures are renewed
        if forge.is_here():
            ordering = self._unet.register_forward_pre_hook(self._order, with_kwargs=True)
            self._attached.callback(take_off, self._unet, ordering)
        for progress in self._progress:
            if progress.applies(self.p):
                erasure = progress.renew(self.p, shared.sd_model, ledger, before != self._state)
                self._attached.enter_context(attach(self._unet, erasure, self._undisturbed))
        self._ledger = ledger

    def _undisturbed(self) -> AbstractContextManager:
        return others.undisturbed(self.p, self._unet)

    # -- tiles ------------------------------------------------

    def _watch_tiles(self, denoiser: Any) -> None:
        if any(progress.plan.request.show_attention and not progress.without for progress in self._progress):
            raise ErasureError(
                "the image is made in tiles by Tiled Diffusion, so where the attention was cannot be shown; untick "
                "Show attention"
            )
        self._tiled = True
        self._attached.enter_context(others.around_calls(denoiser.inner_model, self._tiles))

    @contextmanager
    def _tiles(self, rows: int) -> Iterator[None]:
        """Stand around a call for so many rows that Tiled Diffusion divides into tiles."""
        with self._ledger.tiles(rows):
            yield
            if shared.state.interrupted:  # then it stops between two tiles
                self._ledger.invalidate()

    # -- afterwards ------------------------------------------------

    def _keep_scales(self) -> None:
        for number, progress in enumerate(self._progress):
            if progress.without:
                continue
            scales = {} if progress.erasure is None else progress.erasure.scales
            by_image: dict[int, list] = {}
            for name in sorted(scales):
                by_image.setdefault(name[0], []).append([values.tolist() for values in scales[name]])
            self._kept[number, getattr(self.p, "iteration", 0)] = by_image

    def scales_of(self, plan: int, batch: int, image: int) -> list[list[list[float]]] | None:
        """Return an image's resolved w: per row, per concept, per token; None if not known (yet)."""
        if batch == getattr(self.p, "iteration", 0):
            self._keep_scales()
        return self._kept.get((plan, batch), {}).get(image)


# -- which generation is running ------------------------------------------------

_running = threading.local()


def stack() -> list[Generation]:
    """The generations that run in this thread, nested ones last."""
    if not hasattr(_running, "stack"):
        _running.stack = []
    return _running.stack


def on_cfg_denoiser(params: Any) -> None:
    """Tell the innermost generation of a step: the WebUI's cfg_denoiser callback."""
    if stack() and not is_inner_call():
        stack()[-1].on_step(params)
