"""Wrappers of the WebUI's calls of scripts after a batch is sampled, and after a job.

Through them the pictures beside the results go through the scripts as well. A batch that was stopped before anything
was erased from it is left out: scripts do not see it, nothing of it is shown or saved, and the other batches come back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from modules import devices, errors, scripts, shared

from lib_gie.errors import ErasureError
from lib_gie.hosts.webui.request.parsing import TITLE
from lib_gie.hosts.webui.sampling.running import stack

if TYPE_CHECKING:
    from lib_gie.hosts.webui.sampling.erased_generation import Generation  # not loaded before images are made

_LEFT_OUT = f"{TITLE}: a batch that was stopped before anything was erased from it is left out"


def _generation_of(p: Any) -> Generation | None:
    """Return the generation whose images scripts go over now; None while these are its images without erasure."""
    running = stack()[-1] if stack() else None
    return running if running is not None and running.p is p and not running.is_unerased else None


@contextmanager
def reported_errors() -> Iterator[list[str]]:
    """Collect what the host reports within the context: exceptions in scripts, which it prints and forgets."""
    inner, reported = errors.report, []

    def report(message: str, **options: Any) -> None:
        reported.append(message)
        inner(message, **options)

    errors.report = report
    try:
        yield reported
    finally:
        errors.report = inner


# -- a batch that is left out ------------------------------------------------


def leave_out(generation: Generation) -> torch.Tensor:
    """Have the host leave out the batch that is being sampled.

    Returns latents [B, C, h, w] of zeros, which the host takes for the batch until ``_batch_list`` drops its images.
    Raises ErasureError where scripts of this host cannot take images from a batch.
    """
    p = generation.p
    if getattr(p, "scripts", None) is None:
        generation.left_out.put_aside("scripts")
        p.scripts = scripts.ScriptRunner()  # an empty one, so that the host calls ``_batch_list``
    if not isinstance(p.scripts, scripts.ScriptRunner) or not hasattr(scripts.ScriptRunner, "postprocess_batch_list"):
        raise ErasureError("stopped before anything was erased from the image; make it again")
    generation.left_out.add()
    p.comment(_LEFT_OUT)
    return torch.zeros((len(p.seeds), *p.rng.shape), device=shared.device, dtype=devices.dtype)  # [B, C, h, w]


def _post_sample(inner: Callable[..., Any], runner: Any, p: Any, sampled: Any, *args: Any, **kwargs: Any) -> Any:
    generation = _generation_of(p)
    if generation is not None and generation.left_out.is_running:
        return None
    if generation is not None and generation.gallery is not None:
        generation.gallery.arrives(sampled.samples)
    return inner(runner, p, sampled, *args, **kwargs)


def _postprocess_batch(inner: Callable[..., Any], runner: Any, p: Any, *args: Any, **kwargs: Any) -> Any:
    generation = _generation_of(p)
    if generation is not None and generation.left_out.is_running:
        return None
    return inner(runner, p, *args, **kwargs)


def _batch_list(inner: Callable[..., Any], runner: Any, p: Any, batch: Any, *args: Any, **kwargs: Any) -> Any:
    generation = _generation_of(p)
    if generation is None:
        return inner(runner, p, batch, *args, **kwargs)
    if generation.left_out.is_running:
        batch.images = []
    sampled = len(batch.images)
    done = inner(runner, p, batch, *args, **kwargs) if sampled else None
    generation.left_out.count(len(batch.images))
    if generation.gallery is not None:
        generation.gallery.expect(sampled, len(batch.images))
    return done


# -- what is shown beside the results ------------------------------------------------


def _after_composite(inner: Callable[..., Any], runner: Any, p: Any, shown: Any, *args: Any, **kwargs: Any) -> Any:
    """Give the gallery a result after the last thing that is done to it, as the WebUI is about to show and save it."""
    done = inner(runner, p, shown, *args, **kwargs)
    generation = _generation_of(p)
    if generation is not None and generation.gallery is not None:
        with generation.unerased():  # nor is anything erased from what scripts make of the images without erasure
            generation.gallery.add_result(p, shown.image)
    return done


def _postprocess(inner: Callable[..., Any], runner: Any, p: Any, processed: Any, *args: Any, **kwargs: Any) -> Any:
    generation = _generation_of(p)
    gallery = None if generation is None or generation.has_failed else generation.gallery
    if gallery is None:
        return inner(runner, p, processed, *args, **kwargs)
    _try(gallery, processed, lambda: gallery.append(generation, processed))
    with reported_errors() as reported:
        done = inner(runner, p, processed, *args, **kwargs)
    _try(gallery, processed, lambda: gallery.settle(p, processed, reported))
    return done


def _try(gallery: Any, processed: Any, step: Callable[[], None]) -> None:
    """Take a step that must not fail: the images are erased from and done, and nothing here may take them away."""
    try:
        step()
    except Exception as error:
        errors.report(f"{TITLE}: what was erased cannot be shown ({error})", exc_info=True)
        gallery.take_back(processed)


_AROUND = {
    "post_sample": _post_sample,
    "postprocess_batch": _postprocess_batch,
    "postprocess_batch_list": _batch_list,
    "postprocess_image_after_composite": _after_composite,
    "postprocess": _postprocess,
}


def wrap_scripts(wrap: Callable[..., None]) -> None:
    """Wrap the calls of scripts. ``wrap``: replaces a function once (see ``guard``). An old WebUI lacks some calls."""
    for name, around in _AROUND.items():
        if hasattr(scripts.ScriptRunner, name):
            wrap(scripts.ScriptRunner, name, around)
