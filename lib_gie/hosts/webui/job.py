"""One job, which is one ``process_images`` call: what is asked of it, how it is sampled, what is shown of it.

A generation of another extension within a job, a detailer's for example, is a job as well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from modules import errors, shared

from lib_gie.errors import ErasureError

from .host.chosen import HOST
from .request.asked import given_plans
from .request.enforcement import enforced_requests, erased_anyway, tell_admin
from .request.parsing import TITLE, Request
from .request.plan import Plan
from .request.plans import differences, plans_for, to_calibrate
from .sampling.erased_generation import Generation, is_stopped
from .sampling.inherited import is_in_script, request_of
from .sampling.running import stack
from .shown.afterwards import leave_out
from .shown.parameters import clear_parameters, write_parameters
from .shown.readout import KEY, PICTURES, ReadOut, read_out

if TYPE_CHECKING:
    from .shown.gallery import Gallery  # what makes pictures is not loaded before some are asked for: see below
    from .shown.kept_jobs import KeptJob

_NOT_GONE_OVER = f"{TITLE}: nothing is shown beside the images: this WebUI lets no scripts go over a job's images\n"


def process(inner: Callable[..., Any], p: Any) -> Any:
    """Return what ``inner`` makes of ``p``: its images have been erased from. Raises GieError where that cannot be."""
    request, enforced = request_of(p), enforced_requests()
    own = plans_for(request, enforced)
    calibrated = _calibrate(p, own)
    plans = [*(own if calibrated is None else plans_for(request, enforced)), *given_plans(p)]
    clear_parameters(p)
    if not plans:
        with _beside_the_erased(p):
            return inner(p)
    gallery, kept = _gallery(request, plans), _kept(p, request, plans)
    generation = Generation(p, plans, request, gallery)
    write_parameters(generation)
    notes = [note for plan in plans for note in (*plan.notes, *differences(plan, p))]
    for note in [*(calibrated or ()), *notes, *erased_anyway(request, enforced), *_not_shown(request, plans, gallery)]:
        p.comment(f"{TITLE}: {note}")
    with _on_stack(generation), _watched_sample(generation):
        processed = inner(p)
        generation.check()
        _check_sampled(generation, processed)
        _tell(generation, processed, kept)
    return processed


def _calibrate(p: Any, plans: Sequence[Plan]) -> list[str] | None:
    """Calibrate what Automatic knows nothing of here. The plans are others then; None: there was nothing to do.

    Return what users are told of it, which is nothing of what is enforced: the admin is told, in the console.
    """
    enforced, users = to_calibrate(plans, enforced=True), to_calibrate(plans)
    if not enforced and not users:
        return None
    from .calibration import calibrate_all  # most jobs need none: the WebUI's start is not to wait for it

    if stack():
        stack()[-1].detach()  # the calls of a calibration are none of a generation around this one
    for note in calibrate_all(p, enforced, can_skip=False):
        tell_admin(note)
    return calibrate_all(p, users)


def _check_sampled(generation: Generation, processed: Any) -> None:
    state = shared.state
    stopped = state.interrupted or state.skipped or state.stopping_generation
    if not generation.batches and processed.images and not stopped:
        raise ErasureError(
            "images were made without a sampling step that growth inhibitors saw, so nothing was erased; another "
            "extension makes them in its own way: switch it off, or growth inhibitors"
        )


# -- how it is sampled ------------------------------------------------


@contextmanager
def _on_stack(generation: Generation) -> Iterator[None]:
    """Make a generation the innermost one within the context. The hooks of the one around it are off meanwhile."""
    if stack():
        stack()[-1].detach()
    stack().append(generation)
    try:
        yield
    finally:
        generation.detach()
        generation.left_out.put_back()
        stack().pop()


@contextmanager
def _beside_the_erased(p: Any) -> Iterator[None]:
    """Keep an outer generation's hooks off one from which nothing is erased.

    A detailer's generation within the making of images without erasure is such a one.
    """
    if not stack():
        yield
        return
    generation = Generation(p, ())
    with _on_stack(generation), generation.unerased():
        yield


@contextmanager
def _watched_sample(generation: Generation) -> Iterator[None]:
    """Put hooks around ``p.sample`` within the context: what it returns has been erased from, or it raises."""
    p, own = generation.p, vars(generation.p).get("sample")
    inner = p.sample

    def sample(*args: Any, **kwargs: Any) -> Any:
        return _sampled(generation, lambda: inner(*args, **kwargs))

    p.sample = sample
    try:
        yield
    finally:
        if vars(p).get("sample") is sample:
            del p.sample
            if own is not None:
                p.sample = own


def _sampled(generation: Generation, run: Callable[[], Any]) -> Any:
    """Return the batch that ``run`` makes, erased from; its images without erasure, if wanted, are made first."""
    gallery = generation.gallery
    if gallery is not None:
        gallery.begin(generation.p)
    if generation.wants_unerased:
        from .shown.unerased import sample_unerased  # most jobs need none: the WebUI's start is not to wait for it

        samples = sample_unerased(generation, run, shown=gallery is not None and gallery.before)
        if is_stopped():
            return leave_out(generation)
        if gallery is not None:
            gallery.keep(samples)
    samples = generation.sample(run)
    if is_stopped() and not generation.is_erased:
        return leave_out(generation)
    if gallery is not None:
        gallery.returns(samples)
    return samples


# -- what is shown of it ------------------------------------------------


def _users(plans: Sequence[Plan]) -> list[Plan]:
    return [plan for plan in plans if not plan.enforced]


def _gallery(request: Request | None, plans: Sequence[Plan]) -> Gallery | None:
    """Make what collects the pictures beside the results; None where none are asked for.

    None in nested generations and scripts as well, which go on with what they get.
    """
    if request is None or not (request.show_before or request.show_attention) or not _users(plans):
        return None
    if stack() or is_in_script():
        return None
    from .shown.gallery import Gallery  # most jobs show no pictures: the WebUI's start is not to wait for it

    return Gallery(request.show_before, request.show_attention)


def _kept(p: Any, request: Request | None, plans: Sequence[Plan]) -> KeptJob | None:
    """Keep how a plain generation of the page begins: who has something erased may ask what it would have been."""
    if request is None or getattr(p, "is_api", False) or stack() or is_in_script():
        return None
    if not (HOST.makes_unerased_later and _users(plans)):
        return None
    from .shown.kept_jobs import KeptJob

    return KeptJob(p)


def _not_shown(request: Request | None, plans: Sequence[Plan], gallery: Gallery | None) -> list[str]:
    """Say why what was asked for is not shown beside the results."""
    if request is None or gallery is not None or not (request.show_before or request.show_attention):
        return []
    if not _users(plans):
        return ["what these images would have been is not shown: this WebUI always erases these concepts"]
    return ["the images without erasure and the attention are shown for plain generations only, not within scripts"]


def _tell(generation: Generation, processed: Any, kept: KeptJob | None) -> None:
    """Add the read-out. The images are erased from and done: nothing that fails here may take them away."""
    try:
        if generation.gallery is not None and not generation.gallery.was_appended:
            processed.comments = getattr(processed, "comments", "") + _NOT_GONE_OVER
        processed.extra_generation_params[KEY] = read_out(generation)
        pairs = generation.gallery.pairs() if generation.gallery is not None else []
        again = kept.keep(generation.p) if kept is not None else None
        processed.extra_generation_params[PICTURES] = ReadOut(pairs=pairs, again=again)
    except Exception as error:
        errors.report(f"{TITLE}: what was erased cannot be shown ({error})", exc_info=True)
