"""Wrappers of the host's functions through which every image passes, so that errors in here cannot be swallowed.

The WebUI prints and forgets exceptions in a script's methods and in callbacks. What is raised from within
``process_images_inner`` and ``p.sample`` ends the request with an error that the user sees. ``job`` does the work of
the former's wrapper.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from modules import processing, prompt_parser, scripts, shared

from lib_gie.errors import ErasureError, GieError, OptionError

from .host.chosen import HOST
from .request.enforcement import enforced_text
from .request.parsing import TITLE, check_api_arguments
from .request.prompts import note_reading
from .sampling.running import entered, stack, take_refusal_off
from .shown.afterwards import wrap_scripts
from .shown.previews import wrap_previews

_MARK = "_gie_original"
_PROCESS = "process_images_inner"


def _for_the_api(error: GieError) -> None:
    """Give the error the attributes from which the WebUI's API takes its answer's status and detail."""
    vars(error).update(detail=f"{TITLE}: {error}", status_code=500 if isinstance(error, ErasureError) else 422)


def _process(inner: Callable[..., Any], p: Any) -> Any:
    """Stand in for ``process_images_inner``. An error counts for the generations around this one as well.

    Two of these may be around one job: see ``_wrap_process``. Then the outer one has done the work.
    """
    if entered() and entered()[-1] is p:
        return inner(p)
    take_refusal_off()
    from . import job  # loads all that samples: the WebUI's start is not to wait for it

    entered().append(p)
    try:
        return job.process(inner, p)
    except GieError as error:
        _for_the_api(error)
        for outer in stack():
            outer.nested_failure = error
        raise
    finally:
        entered().pop()


def _run_script(inner: Callable[..., Any], runner: Any, p: Any, *args: Any) -> Any:
    """Stand in for ``ScriptRunner.run``, which runs the script that is selected in the page."""
    from .sampling.inherited import within_script

    with within_script(p):
        return inner(runner, p, *args)


def _init_script_args(inner: Callable[..., Any], api: Any, request: Any, *args: Any, **kwargs: Any) -> Any:
    """Stand in for ``Api.init_script_args``: refuse, with HTTP 422, what the WebUI would drop without a word."""
    from fastapi import HTTPException

    from .page.pasted import check_pasted  # a part of the page, which is not imported before it is needed

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


def _wrap(owner: Any, name: str, around: Callable[..., Any]) -> None:
    """Replace a function of the host by ``around``, which gets the function and then its arguments.

    A function that is replaced already stays as it is: Reload UI comes by here again.
    """
    inner = getattr(owner, name)
    if hasattr(inner, _MARK):
        return

    @functools.wraps(inner)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        return around(inner, *args, **kwargs)

    setattr(wrapped, _MARK, inner)
    setattr(owner, name, wrapped)


def _wrap_process(around: Callable[..., Any]) -> None:
    """Replace ``process_images_inner``, and the host's own function of that name wherever it is kept.

    ControlNet puts a function of its own in its place and keeps the host's under another name. ADetailer puts that one
    back for its inpainting. Functions of other extensions may make images without the host's.
    """
    kept = [name for name, value in vars(processing).items() if _is_hosts(value)]
    for name in (_PROCESS, *kept):
        _wrap(processing, name, around)


def _is_hosts(value: Any) -> bool:
    of = getattr(value, "__module__", None), getattr(value, "__name__", None)
    return callable(value) and of == (processing.__name__, _PROCESS)


def install() -> None:
    """Put the wrappers in place; a second time changes nothing."""
    _wrap_process(_process)
    _wrap(scripts.ScriptRunner, "run", _run_script)
    if HOST.notes_readings:
        _wrap(prompt_parser, "get_multicond_learned_conditioning", note_reading)
    wrap_scripts(_wrap)
    wrap_previews(_wrap)


def install_refusal(reason: str) -> None:
    """Let no image be made where nothing can be erased, as long as the admin has something erased from every image."""

    def refuse(inner: Callable[..., Any], p: Any) -> Any:
        if enforced_text():
            error = ErasureError(f"{reason}. This WebUI always erases {enforced_text()!r}, so it makes no images")
            _for_the_api(error)
            raise error
        return inner(p)

    _wrap_process(refuse)


def install_api() -> None:
    """Put the API's wrapper in place, where the WebUI has an API (--api)."""
    if not (shared.cmd_opts.api or shared.cmd_opts.nowebui):
        return
    from modules.api.api import Api  # not there before the WebUI has started its API

    _wrap(Api, "init_script_args", _init_script_args)
