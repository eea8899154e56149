"""Calibrates, within a job, the concepts that it asks for and that nothing is known of on the loaded checkpoint."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from modules import devices, errors, shared
from tqdm import tqdm

from lib_gie.checks import quoted
from lib_gie.core.concepts import Concept
from lib_gie.core.scales.calibrated import Calibration, save_calibration
from lib_gie.demo.fixed_scale import default_scale
from lib_gie.errors import ErasureError, GieError
from lib_gie.hosts.library import calibration_name, remove_oldest
from lib_gie.training.calibration import CalibrationStoppedError, calibrate

from .host.checkpoint_file import differs_from_file
from .host.chosen import HOST
from .host.model import clip_skip, family_and_heads, unet_of, weights_of
from .host.plain_words import plain_words
from .request.enforcement import enforced_keys
from .request.installed import calibrations_folder
from .request.parsing import TITLE
from .training.image_maker import WebUIImageMaker
from .training.usual import usual_sampling

_failed: dict[tuple[str, str, Any], tuple[float, str]] = {}
"""When and why a concept could not be calibrated, by its key, checkpoint and clip skip."""

_RETRIED_AFTER = 600.0  # seconds: trying takes long, and what has failed for want of memory may go well later


MOST_KEPT, MOST_READ = 500, 50
"""Calibrations that are kept in all, and files of what neutral prompts gave, one for each checkpoint and clip skip.
Whoever may send requests can have new ones made, and is not to fill the disk."""


def calibrate_all(p: Any, concepts: Sequence[Concept], can_skip: bool = True) -> list[str]:
    """Calibrate concepts on the loaded checkpoint, in the job ``p`` that runs. Return what is to be told of it.

    What fails or is skipped is left to the fixed scale. Where the job is interrupted nothing more is begun.
    ``can_skip``: whether "Skip" skips a calibration; otherwise it does nothing meanwhile.
    """
    notes = []
    try:
        for concept in {concept.key: concept for concept in concepts}.values():
            if shared.state.interrupted or shared.state.stopping_generation:
                break
            key = concept.key, weights_of(shared.sd_model), clip_skip()
            notes.append(_failed_before(key) or _told(concept, key, can_skip))
    finally:
        HOST.as_in_job(p, shared.sd_model)
    return notes


def _failed_before(key: tuple[str, str, Any]) -> str:
    """Return why a calibration has failed a short while ago, "" where it has not."""
    since, reason = _failed.get(key, (0.0, ""))
    return reason if reason and time.monotonic() - since < _RETRIED_AFTER else ""


def _told(concept: Concept, key: tuple[str, str, Any], can_skip: bool) -> str:
    started = time.monotonic()
    try:
        made = _calibrated(concept, can_skip)
    except CalibrationStoppedError:
        how = "interrupted" if shared.state.interrupted else "skipped, so these images have the fixed scale"
        return f"the calibration of {quoted(concept.text)} was {how}; the next one goes on from there"
    except Exception as error:  # whatever it is, the fixed scale erases
        reason = f"{quoted(concept.text)} could not be calibrated ({quoted(str(error))})"
        if not isinstance(error, GieError):
            errors.report(f"{TITLE}: {concept.text!r} could not be calibrated", exc_info=True)
            devices.torch_gc()
            _failed[key] = time.monotonic(), reason
        return reason
    seconds, info = time.monotonic() - started, made.info
    warning = "" if can_skip else info.warning  # a user is told with each image
    return (
        f"{quoted(concept.text)} was calibrated on this checkpoint in {seconds:.0f} s ({info.training['evaluations']} "
        f"UNet evaluations): scale {info.strength:g} where it is present. The next images need no calibration"
        f"{warning and f'; {warning}'}"
    )


def _calibrated(concept: Concept, can_skip: bool) -> Calibration:
    """Calibrate one concept, its plain words, and keep the file."""
    model, folder = shared.sd_model, calibrations_folder()
    weights, read = weights_of(model), folder / "neutral"
    if differs_from_file(model):
        raise ErasureError(
            "the loaded weights are not those of the checkpoint's file, so what is found would hold for no other "
            "image; load the checkpoint again"
        )
    with plain_words(model), _progress(concept) as on_progress:
        maker = _image_maker(model)
        made = calibrate(
            maker, concept.text, weights, unchecked=default_scale(maker.base), folder=read, on_progress=on_progress,
            should_stop=_is_stopped if can_skip else _is_interrupted,
        )  # fmt: skip
    name = calibration_name(concept.key, weights, maker.conditions["clip_skip"])
    save_calibration(made, folder / f"{name}.safetensors")
    _make_room(folder)
    return made


def _make_room(folder: Path) -> None:
    """Delete the calibrations that were used longest ago, but none of what is enforced."""
    always = enforced_keys()
    remove_oldest(folder, MOST_KEPT, lambda info: any(concept.casefold() in always for concept in info.concepts))
    remove_oldest(folder / "neutral", MOST_READ)


def _image_maker(model: Any) -> WebUIImageMaker:
    """Return the loaded checkpoint with the sampling that suits it. The job has its turn already."""
    usual = usual_sampling(family_and_heads(unet_of(model))[0])
    sampling = {"steps": usual["steps"], "cfg": usual["cfg"], "width": usual["side"], "height": usual["side"]}
    return WebUIImageMaker(sampler="DPM++ 2M", turn=nullcontext, **sampling)


def _is_interrupted() -> bool:
    return bool(shared.state.interrupted)


def _is_stopped() -> bool:
    return bool(shared.state.interrupted or shared.state.skipped)


@contextmanager
def _progress(concept: Concept) -> Iterator[Any]:
    """Yield what shows the progress of a calibration in the page and the console.

    The job's own count begins anew afterwards. "Skip" skips the calibration at most, and never an image of the job.
    """
    state = shared.state
    before = state.job_count, state.sampling_steps, state.sampling_step, state.textinfo
    state.textinfo = f"calibrating {concept.text}"  # from the beginning: how much there is to do is known later
    with tqdm(desc=f"calibrating {concept.text}", unit="evaluation") as bar:

        def on_progress(done: int, expected: int) -> None:
            bar.total = expected
            bar.update(done - bar.n)
            state.job_count, state.sampling_steps, state.sampling_step = 1, expected, done

        try:
            yield on_progress
        finally:
            state.job_count, state.sampling_steps, state.sampling_step, state.textinfo = before
            state.skipped = False
