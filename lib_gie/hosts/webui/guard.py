"""Wrappers of the host's functions through which every image passes, so that errors in here cannot be swallowed.

The WebUI prints and forgets exceptions in a script's methods and in callbacks. What is raised from within
``process_images_inner`` and ``p.sample`` ends the request with an error that the user sees.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from modules import errors, processing, prompt_parser, scripts, shared

from lib_gie.checks import quoted
from lib_gie.core.concepts import Concept
from lib_gie.errors import ErasureError, GieError, OptionError

from .host.chosen import HOST
from .request.enforcement import Enforced, enforced_requests, enforced_text, shows_enforced_scale, taken_by, without
from .request.infotext import ALL_KEYS, ENFORCED, ENFORCED_SCALE, SCALE, concepts_text, scales_text, write_params
from .request.parsing import TITLE, Request, check_api_arguments, read_request
from .request.plan import Plan
from .request.plans import differences, make_plan
from .request.prompts import note_reading
from .sampling.erased_generation import Generation, is_stopped, stack
from .shown import afterwards, previews

OVERRIDES = "gie_overrides"
"""Attribute of ``p``: option values by name that X/Y/Z axes set."""

PLAN = "gie_plan"
"""Attribute of ``p``: a plan made already, of a generation that training starts."""

_NOT_GONE_OVER = f"{TITLE}: nothing is shown beside the images: this WebUI lets no scripts go over a job's images\n"
_MARK = "_gie_original"
_ambient = threading.local()


def _own_request(p: Any) -> Request | None:
    """Return what the accordion (or the API) asks of this very ``p``."""
    runner = getattr(p, "scripts", None)
    mine = [script for script in getattr(runner, "alwayson_scripts", ()) if getattr(script, "erases_concepts", False)]
    args = (getattr(p, "script_args", None) or ())[mine[0].args_from : mine[0].args_to] if mine else ()
    return read_request(args, getattr(p, OVERRIDES, None))


def request_of(p: Any) -> Request | None:
    """Return what is asked of ``p``: its own request, else that of what it runs in (another generation, a script).

    None where it runs in a generation that makes images without erasure.
    """
    if stack() and stack()[-1].without:
        return None
    own = _own_request(p)
    if own is not None:
        return own
    if stack():
        return stack()[-1].request
    return getattr(_ambient, "request", None)


def _plans(request: Request | None, enforced: Sequence[Enforced]) -> list[Plan]:
    if request is None and not enforced:
        return []
    model = shared.sd_model
    plans = [make_plan(wish.request, model, enforced=True, floor=wish.floor) for wish in enforced]
    left = None if request is None else without(request, enforced)
    return plans if left is None else [*plans, make_plan(left, model)]


def _scale_writer(generation: Generation, *plans: int) -> Callable[..., str | None]:
    """Make what gives an infotext the resolved scales of the very image it is for. ``plans``: by their numbers."""

    def scale(p, index, all_seeds, use_main_prompt, **kwargs) -> str | None:
        if not use_main_prompt and all_seeds is getattr(p, "seeds", None):
            batch, image = getattr(p, "iteration", 0), index  # the WebUI counts within the batch here
        else:
            batch, image = divmod(index, p.batch_size)
        found = [generation.scales_of(number, batch, image) for number in plans]
        if any(rows is None for rows in found):
            return None
        return scales_text([[scale for row in rows for scale in row] for rows in zip(*found, strict=True)])

    return scale


def _write_infotext(generation: Generation) -> None:
    params = generation.p.extra_generation_params
    enforced = [number for number, plan in enumerate(generation.plans) if plan.enforced]
    if enforced:
        concepts = [concept for number in enforced for concept in generation.plans[number].request.concepts]
        params[ENFORCED] = concepts_text(list(dict.fromkeys(Concept(one.text, one.weight) for one in concepts)))
        if shows_enforced_scale():
            params[ENFORCED_SCALE] = _scale_writer(generation, *enforced)
    for number, plan in enumerate(generation.plans):
        if not plan.enforced:
            params.update(write_params(plan.request, plan.described))
            params[SCALE] = _scale_writer(generation, number)


def _sampled(generation: Generation, run: Callable[[], Any]) -> Any:
    """Return the batch that ``run`` makes, erased from; its images without erasure, if wanted, are made first."""
    gallery = generation.gallery
    if gallery is not None:
        gallery.begin(generation.p)
    if generation.wants_twin:
        from .shown.unerased import sample_twin

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
    """Put hooks around ``p.sample`` within the context: what it returns has been erased from, or it raises."""
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


def _for_the_api(error: GieError) -> None:
    """Give the error the attributes from which the WebUI's API takes its answer's status and detail."""
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
    enforced = enforced_requests()
    plans = _plans(request, enforced)
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
    notes = [note for plan in plans for note in (*plan.notes, *differences(plan, p))]
    for note in [*notes, *_erased_anyway(request, enforced), *_not_shown(request, plans, gallery)]:
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
    """Make what collects the pictures beside the results.

    None in nested generations and scripts, which go on with what they get.
    """
    if request is None or not (request.show_before or request.show_attention) or not _users(plans):
        return None
    if stack() or getattr(_ambient, "in_script", False):
        return None
    from .shown.gallery import Gallery

    return Gallery(request.show_before, request.show_attention)


def _not_shown(request: Request | None, plans: list, gallery: Any) -> list[str]:
    """Say why what was asked for is not shown beside the results."""
    if request is None or gallery is not None or not (request.show_before or request.show_attention):
        return []
    if not _users(plans):
        return ["what these images would have been is not shown: this WebUI always erases these concepts"]
    return ["the images without erasure and the attention are shown for plain generations only, not within scripts"]


def _erased_anyway(request: Request | None, enforced: Sequence[Enforced]) -> list[str]:
    """Say which of the user's concepts are erased as the admin wants it, whatever the request says of them."""
    taken = [] if request is None else taken_by(enforced, request)
    if not taken:
        return []
    return [
        f"this WebUI always erases {', '.join(quoted(concept.text) for concept in taken)} in the way that its admin "
        f"chose; adapter, scale, strength, steps and weight of this request do not count there"
    ]


def _tell(generation: Generation, processed: Any) -> None:
    """Add the read-out. The images are erased from and done: nothing that fails here may take them away."""
    from .shown.readout import KEY, read_out

    try:
        if generation.gallery is not None and not generation.gallery.was_appended:
            processed.comments = getattr(processed, "comments", "") + _NOT_GONE_OVER
        processed.extra_generation_params[KEY] = read_out(generation)
    except Exception as error:
        errors.report(f"{TITLE}: what was erased cannot be shown ({error})", exc_info=True)


def _run_script(inner: Callable, runner: Any, p: Any, *args) -> Any:
    """Run a selected script. Processing objects of its own making inherit what ``p`` asks for."""
    before = getattr(_ambient, "request", None), getattr(_ambient, "in_script", False)
    _ambient.request, _ambient.in_script = request_of(p), True
    try:
        return inner(runner, p, *args)
    finally:
        _ambient.request, _ambient.in_script = before


def _init_script_args(inner: Callable, api: Any, request: Any, *args, **kwargs) -> Any:
    """Refuse, with HTTP 422, what the WebUI would drop without a word."""
    from fastapi import HTTPException

    from .page.accordion import check_pasted

    try:
        ours = [value for name, value in (request.alwayson_scripts or {}).items() if name.lower() == TITLE.lower()]
        for value in ours:
            check_api_arguments(value)
        if len(ours) > 1:
            raise OptionError(f'"{TITLE}" is {len(ours)} times in alwayson_scripts, in different cases; give it once')
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
    if HOST.notes_readings:
        _wrap(prompt_parser, "get_multicond_learned_conditioning", note_reading)
    afterwards.install(_wrap)
    previews.install(_wrap)


def install_refusal(reason: str) -> None:
    """Let no image be made where nothing can be erased, as long as the admin has something erased from every image."""

    def refuse(inner: Callable, p: Any) -> Any:
        if enforced_text():
            error = ErasureError(f"{reason}. This WebUI always erases {enforced_text()!r}, so it makes no images")
            _for_the_api(error)
            raise error
        return inner(p)

    _wrap(processing, "process_images_inner", refuse)


def install_api() -> None:
    """Put the API's wrapper in place, where the WebUI has an API (--api)."""
    if not (shared.cmd_opts.api or shared.cmd_opts.nowebui):
        return
    from modules.api.api import Api

    _wrap(Api, "init_script_args", _init_script_args)
