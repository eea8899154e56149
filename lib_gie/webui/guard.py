"""Wraps the host's functions through which every image passes, so that errors in here cannot be swallowed.

The WebUI prints and forgets exceptions in a script's methods and in callbacks. What is raised from within
``process_images_inner`` and ``p.sample`` ends the request with an error that the user sees.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from modules import errors, processing, scripts, shared

from ..errors import ErasureError, GieError
from . import afterwards, previews
from .generation import Generation, is_stopped, stack
from .infotext import ALL_KEYS, ENFORCED, ENFORCED_SCALE, SCALE, concepts_text, scales_text, write_params
from .options import TITLE, Request, check_api_arguments, read_request
from .plans import enforced_request, enforced_text, make_plan, without

OVERRIDES = "gie_overrides"
"""Attribute of ``p``: option values by name that X/Y/Z axes set."""

PLAN = "gie_plan"
"""Attribute of ``p``: a plan made already, of a generation that training starts."""

_NOT_GONE_OVER = f"{TITLE}: nothing is shown beside the images: this WebUI lets no scripts go over a job's images\n"
_MARK = "_gie_original"
_ambient = threading.local()


def _own_request(p: Any) -> Request | None:
    """What the accordion (or the API) asks of this very ``p``."""
    runner = getattr(p, "scripts", None)
    mine = [script for script in getattr(runner, "alwayson_scripts", ()) if getattr(script, "erases_concepts", False)]
    args = (getattr(p, "script_args", None) or ())[mine[0].args_from : mine[0].args_to] if mine else ()
    return read_request(args, getattr(p, OVERRIDES, None))


def request_of(p: Any) -> Request | None:
    """What is asked of ``p``: its own request, else that of what it runs in (another generation, a script).

    Nothing, where that one makes images without erasure.
    """
    if stack() and stack()[-1].without:
        return None
    own = _own_request(p)
    if own is not None:
        return own
    if stack():
        return stack()[-1].request
    return getattr(_ambient, "request", None)


def _plans(request: Request | None) -> list:
    enforced = enforced_request()
    if request is None and enforced is None:
        return []
    model = shared.sd_model
    plans = [] if enforced is None else [make_plan(enforced, model, enforced=True)]
    left = None if request is None else without(request, enforced)
    return plans if left is None else [*plans, make_plan(left, model)]


def _scale_writer(generation: Generation, number: int) -> Callable[..., str | None]:
    """For the infotext: resolved scales of the very image that it is written for."""

    def scale(p, index, all_seeds, use_main_prompt, **kwargs) -> str | None:
        if not use_main_prompt and all_seeds is getattr(p, "seeds", None):
            batch, image = getattr(p, "iteration", 0), index  # the WebUI counts within the batch here
        else:
            batch, image = divmod(index, p.batch_size)
        rows = generation.scales_of(number, batch, image)
        return None if rows is None else scales_text(rows)

    return scale


def _write_infotext(generation: Generation) -> None:
    params = generation.p.extra_generation_params
    for number, plan in enumerate(generation.plans):
        if plan.enforced:
            params[ENFORCED] = concepts_text(plan.request.concepts)
            params[ENFORCED_SCALE] = _scale_writer(generation, number)
        else:
            params.update(write_params(plan.request, plan.described))
            params[SCALE] = _scale_writer(generation, number)


def _sampled(generation: Generation, run: Callable[[], Any]) -> Any:
    """A batch; what ``run`` returns has been erased from. The same images without erasure are made first."""
    gallery = generation.gallery
    if gallery is not None:
        gallery.begin(generation.p)
    if generation.wants_twin:
        from .twin import sample_twin

        samples = sample_twin(generation, run, shown=gallery is not None and gallery.before)
        if is_stopped():
            return afterwards.leave_out(generation)
        if gallery is not None:
            gallery.keep(samples)
    samples = generation.sample(run)
    if is_stopped() and not generation.is_erased:
        return afterwards.leave_out(generation)
    if gallery is not None:
        gallery.returns(samples)
    return samples


@contextmanager
def _watched_sample(generation: Generation) -> Iterator[None]:
    """``p.sample`` with hooks around it; what it returns has been erased from, or it raises."""
    p, own = generation.p, vars(generation.p).get("sample")
    inner = p.sample

    def sample(*args, **kwargs):
        return _sampled(generation, lambda: inner(*args, **kwargs))

    p.sample = sample
    try:
        yield
    finally:
        if vars(p).get("sample") is sample:
            del p.sample
            if own is not None:
                p.sample = own


@contextmanager
def _on_stack(generation: Generation) -> Iterator[None]:
    """While it runs, the hooks of a generation that it is nested in are off."""
    if stack():
        stack()[-1].detach()
    stack().append(generation)
    try:
        yield
    finally:
        generation.detach()
        generation.end()
        stack().pop()


@contextmanager
def _beside_the_erased(p: Any) -> Iterator[None]:
    """A generation from which nothing is erased, within the making of another one's images without erasure, say."""
    if not stack():
        yield
        return
    generation = Generation(p, ())
    with _on_stack(generation), generation.unerased():
        yield


def _for_the_api(error: GieError) -> None:
    """The WebUI's API takes an answer's status and detail from the exception's attributes of these names."""
    error.detail = f"{TITLE}: {error}"
    error.status_code = 500 if isinstance(error, ErasureError) else 422


def _process(inner: Callable, p: Any) -> Any:
    try:
        return _process_with_erasure(inner, p)
    except GieError as error:
        _for_the_api(error)
        for outer in stack():
            outer.nested_failure = error
        raise


def _process_with_erasure(inner: Callable, p: Any) -> Any:
    request = request_of(p)
    plans = _plans(request)
    if hasattr(p, PLAN):
        plans.append(getattr(p, PLAN))
    for key in ALL_KEYS:
        p.extra_generation_params.pop(key, None)
    if not plans:
        with _beside_the_erased(p):
            return inner(p)
    gallery = _gallery(request, plans)
    generation = Generation(p, plans, request, gallery)
    _write_infotext(generation)
    for note in [*(note for plan in plans for note in plan.notes), *_not_shown(request, plans, gallery)]:
        p.comment(f"{TITLE}: {note}")
    with _on_stack(generation), _watched_sample(generation):
        processed = inner(p)
        generation.check()
        stopped = shared.state.interrupted or shared.state.skipped or shared.state.stopping_generation
        if not generation.batches and processed.images and not stopped:
            raise ErasureError(
                "images were made without a sampling step that growth inhibitors saw, so nothing was erased; another "
                "extension makes them in its own way: switch it off, or growth inhibitors"
            )
        _tell(generation, processed)
    return processed


def _users(plans: list) -> list:
    return [plan for plan in plans if not plan.enforced]


def _gallery(request: Request | None, plans: list):
    """What is shown beside the results; nothing in nested generations and scripts, which go on with what they get."""
    if request is None or not (request.show_before or request.show_attention) or not _users(plans):
        return None
    if stack() or getattr(_ambient, "in_script", False):
        return None
    from .gallery import Gallery

    return Gallery(request.show_before, request.show_attention)


def _not_shown(request: Request | None, plans: list, gallery: Any) -> list[str]:
    """Why not what was asked for."""
    if request is None or gallery is not None or not (request.show_before or request.show_attention):
        return []
    if not _users(plans):
        return ["what these images would have been is not shown: this WebUI always erases these concepts"]
    return ["the images without erasure and the attention are shown for plain generations only, not within scripts"]


def _tell(generation: Generation, processed: Any) -> None:
    """The read-out. The images are erased from and done: nothing that fails here may take them away."""
    from .readout import KEY, read_out

    try:
        if generation.gallery is not None and not generation.gallery.was_appended:
            processed.comments = getattr(processed, "comments", "") + _NOT_GONE_OVER
        processed.extra_generation_params[KEY] = read_out(generation)
    except Exception as error:
        errors.report(f"{TITLE}: what was erased cannot be shown ({error})", exc_info=True)


def _run_script(inner: Callable, runner: Any, p: Any, *args) -> Any:
    """A selected script may make processing objects of its own: they inherit what ``p`` asks for."""
    before = getattr(_ambient, "request", None), getattr(_ambient, "in_script", False)
    _ambient.request, _ambient.in_script = request_of(p), True
    try:
        return inner(runner, p, *args)
    finally:
        _ambient.request, _ambient.in_script = before


def _init_script_args(inner: Callable, api: Any, request: Any, *args, **kwargs) -> Any:
    """Refuses, with HTTP 422, what the WebUI would drop without a word."""
    from fastapi import HTTPException

    from .page import check_pasted

    try:
        for name, value in (request.alwayson_scripts or {}).items():
            if str(name).lower() == TITLE.lower():
                check_api_arguments(value)
        check_pasted(getattr(request, "infotext", None))
    except GieError as error:
        raise HTTPException(status_code=422, detail=f"{TITLE}: {error}") from error
    return inner(api, request, *args, **kwargs)


def _wrap(owner: Any, name: str, around: Callable) -> None:
    """Replace a function of the host once; Reload UI comes by here again."""
    inner = getattr(owner, name)
    if hasattr(inner, _MARK):
        return

    @functools.wraps(inner)
    def wrapped(*args, **kwargs):
        return around(inner, *args, **kwargs)

    setattr(wrapped, _MARK, inner)
    setattr(owner, name, wrapped)


def install() -> None:
    """Put the wrappers in place; a second time changes nothing."""
    _wrap(processing, "process_images_inner", _process)
    _wrap(scripts.ScriptRunner, "run", _run_script)
    afterwards.install(_wrap)
    previews.install(_wrap)


def install_refusal(reason: str) -> None:
    """Where nothing can be erased: no image as long as the admin wants something erased from every image."""

    def refuse(inner: Callable, p: Any) -> Any:
        if enforced_text():
            error = ErasureError(f"{reason}. This WebUI always erases {enforced_text()!r}, so it makes no images")
            _for_the_api(error)
            raise error
        return inner(p)

    _wrap(processing, "process_images_inner", refuse)


def install_api() -> None:
    """The same for the API, where the WebUI has one (--api)."""
    if not (shared.cmd_opts.api or shared.cmd_opts.nowebui):
        return
    from modules.api.api import Api

    _wrap(Api, "init_script_args", _init_script_args)
