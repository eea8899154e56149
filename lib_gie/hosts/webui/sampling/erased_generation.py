"""One ``process_images`` call that erases: its batches, and what is known of them afterwards."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from modules import shared

from lib_gie.core.session import is_inner_call
from lib_gie.errors import ErasureError
from lib_gie.hosts.webui.host.contract import Denoiser, Processing, StepParams
from lib_gie.hosts.webui.request.enforcement import enforced_requests, tell_admin
from lib_gie.hosts.webui.request.parsing import TITLE, Request
from lib_gie.hosts.webui.request.plan import Plan

from .batch_sampling import BatchSampling, raise_in_next_call
from .found_scales import FoundInJob, FoundScales
from .inherited import request_of
from .left_out import LeftOut
from .loaded_model import AnswersByState
from .plans_in_batches import PlansInBatches
from .running import entered, keep_refusal, stack


def is_stopped() -> bool:
    """Tell whether the user has had enough of the batch that is being made, or of the whole job."""
    return bool(shared.state.interrupted or shared.state.skipped)


class Generation:
    """What is to be erased from the images of one processing object ``p``, and how far that has come."""

    def __init__(self, p: Processing, plans: Sequence[Plan], request: Request | None = None, gallery: Any = None):
        """``request``: the user's, which nested generations inherit; ``gallery``: collects what is shown beside."""
        self.p, self.plans = p, tuple(plans)
        self.request, self.gallery = request, gallery
        self.nested_failure: BaseException | None = None  # of a generation within this one, which a script may swallow
        self._in_batches = PlansInBatches(p, plans)
        self.recorders = self._in_batches.recorders
        self.batches = 0
        self.is_unerased = False  # what runs now makes images without what the user wants erased
        self.left_out = LeftOut(p)
        self._batch: BatchSampling | None = None  # of p, which is sampled now or was sampled last
        self._other: BatchSampling | None = None  # of another object, which an extension samples past the guard
        self._is_sampling = False  # whether p.sample runs
        self._answers = AnswersByState()
        self._found = FoundInJob()

    # -- a batch ------------------------------------------------

    @property
    def _number(self) -> int:
        """The number of the job's batch."""
        return getattr(self.p, "iteration", 0)

    @property
    def wants_unerased(self) -> bool:
        """Whether every batch is made without erasure, too."""
        return any(plan.wants_unerased for plan in self.plans) or bool(self.gallery and self.gallery.before)

    def sample(self, inner: Callable[[], Any], unerased: bool = False) -> Any:
        """Return what ``inner`` does; it has been erased from (``unerased``: by the admin's wishes alone), or raise."""
        batch = self.begin_batch(unerased)
        self._is_sampling = True
        try:
            result = inner()
            self._end(batch)
            return result
        finally:
            self._is_sampling = False
            self.detach()

    @contextmanager
    def unerased(self) -> Iterator[None]:
        """Erase nothing that the user asks for within the context, also in generations that run within this one."""
        before, self.is_unerased = self.is_unerased, True
        try:
            yield
        finally:
            self.is_unerased = before

    def begin_batch(self, unerased: bool = False) -> BatchSampling:
        """Prepare a batch before ``p.sample``: extra networks are active, nothing is sampled yet.

        ``unerased``: what is sampled now are the same images without what the user wants erased.
        """
        self.check()  # something may have sampled since the last one ended, outside of p.sample
        self.detach()
        self._batch, self._other = self._batch_of(self.p, unerased), None
        self.batches += not unerased
        self._batch.attach()
        return self._batch

    def _batch_of(self, p: Processing, unerased: bool) -> BatchSampling:
        plans = self._in_batches.watching(p) if unerased else self._in_batches.erased(p)
        return BatchSampling(p, plans, self._answers)

    def _end(self, batch: BatchSampling) -> None:
        """Raise, after ``p.sample``, unless every step of the chosen passes was erased from.

        A batch that was stopped may have had no step at all: see ``is_erased``.
        """
        self._keep_found()
        self.check()
        _tell_replacements(self.p, batch)
        if not is_stopped():
            _check_nothing_missed(batch)

    def check(self) -> None:
        """Raise what was refused, here or in a generation within this one, whether or not somebody swallowed it."""
        batches = [batch for batch in (self._batch, self._other) if batch is not None]
        for failure in (*(batch.failure for batch in batches), self.nested_failure):
            if failure is not None:
                raise failure
        for batch in batches:
            _check_batch(batch)

    @property
    def is_erased(self) -> bool:
        """Whether everything has been erased from what was sampled last, as far as that has come."""
        return self._batch is not None and not self._batch.missed

    @property
    def has_failed(self) -> bool:
        """Whether the request ends with an error."""
        failed = any(batch is not None and batch.failure for batch in (self._batch, self._other))
        return failed or self.nested_failure is not None

    def detach(self) -> None:
        """Take all hooks off; the next denoiser call puts them on again."""
        for batch in (self._batch, self._other):
            if batch is not None:
                batch.detach()

    def on_step(self, params: StepParams) -> None:
        """Tell of a denoiser call: the WebUI's cfg_denoiser callback."""
        if not self.plans:
            return
        of = _sampled(params.denoiser, self.p, self._is_sampling)
        batch, beside = (self._batch, self._other) if of is self.p else (self._other, self._batch)
        if beside is not None:
            beside.detach()
        (batch if batch is not None and batch.p is of else self._begin_late(of)).on_step(params)

    def _begin_late(self, of: Processing) -> BatchSampling:
        """Begin a batch in a callback, where something has replaced ``p.sample``, or samples another object itself."""
        batch = BatchSampling(of, [])
        try:
            if of is not self.p and self._other is not None:
                self._other.detach()
                _check_batch(self._other)
            batch = self._batch_of(of, self.is_unerased)
            batch.attach()
        except BaseException as error:  # whatever it is, the image must not come out
            batch.fail(error)
        batch.is_late = True
        if of is self.p:
            self._batch = batch
            self.batches += 1
        else:
            self._other = batch
        return batch

    # -- afterwards ------------------------------------------------

    def _keep_found(self) -> None:
        if self._batch is not None:
            self._found.keep(self._number, self._batch.plans)

    def found(self, plan: int, batch: int, image: int) -> FoundScales | None:
        """Return what was found for an image by one of ``plans``; None where it is not known (yet)."""
        if batch == self._number:
            self._keep_found()
        return self._found.of(plan, batch, image)


def _sampled(denoiser: Denoiser, p: Processing, is_sampling: bool) -> Processing:
    """Return the object that a denoiser samples in a job of ``p``.

    Another than ``p`` is one that an extension samples itself, as detailers do. It goes by its own prompts. A copy of
    ``p``, which has the same list of prompts, counts as ``p`` where ``p.sample`` runs (``is_sampling``).
    """
    found = getattr(denoiser, "p", None) or p
    is_copy = getattr(found, "prompts", None) is getattr(p, "prompts", None)
    return p if is_sampling and is_copy else found


def _check_batch(batch: BatchSampling) -> None:
    """Raise what was refused in a batch. Nothing has ended one that began late, so what it missed is told here."""
    batch.check()
    if batch.is_late and not is_stopped():
        _check_nothing_missed(batch)


def _check_nothing_missed(batch: BatchSampling) -> None:
    for missed in batch.missed:
        raise ErasureError(_nothing_done(missed.plan.request))


def _tell_replacements(p: Processing, batch: BatchSampling) -> None:
    """Say under the images where a fixed scale took the place of an adapter's answer; of an admin's, in the console."""
    for progress in batch.plans:
        if not progress.is_unerased and progress.erasure is not None:
            for note in progress.plan.replacement_notes(progress.erasure):
                if progress.plan.enforced:
                    tell_admin(note)
                else:
                    p.comment(f"{TITLE}: {note}")


def _nothing_done(request: Request) -> str:
    """Say why nothing was erased though no UNet call was missed."""
    if (request.start, request.end) != (0.0, 1.0):
        return (
            f"no sampling step lies between start {request.start:g} and end {request.end:g}, so "
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


def on_cfg_denoiser(params: StepParams) -> None:
    """Tell the innermost generation of a step: the WebUI's cfg_denoiser callback."""
    if is_inner_call():
        return
    if stack():
        stack()[-1].on_step(params)
    else:
        _check_unseen(params.denoiser)


def _check_unseen(denoiser: Denoiser) -> None:
    """Have the UNet call raise where something is to be erased from images that the guard has never seen."""
    p = getattr(denoiser, "p", None)
    if p is None or any(one is p for one in entered()):
        return
    try:
        wanted = bool(enforced_requests()) or request_of(p) is not None
    except Exception:  # whatever it is, nobody can tell what is wanted
        wanted = True
    if wanted:
        error = ErasureError(
            "another extension makes these images past growth inhibitors, so nothing would be erased from them; "
            "switch that extension off"
        )
        keep_refusal(raise_in_next_call(error, denoiser))
