"""Calibrates, within a job, the concepts that it asks for and that nothing is known of on the loaded checkpoint."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

from modules import devices, errors, shared
from tqdm import tqdm

from lib_gie.checks import quoted
from lib_gie.core.concepts import Concept
from lib_gie.core.scales.calibrated import Calibration, save_calibration
from lib_gie.demo.fixed_scale import default_scale
from lib_gie.errors import GieError, OptionError
from lib_gie.hosts.library import calibration_name
from lib_gie.training.calibration import CalibrationStoppedError, calibrate
from lib_gie.training.prompts.reference import naming_prompts, neutral_prompts

from .host.chosen import HOST
from .host.model import clip_skip, family_and_heads, inversions_in, unet_of, weights_of
from .host.prompt_state import usual_settings
from .request.installed import adapter_folders
from .request.parsing import TITLE
from .training.image_maker import WebUIImageMaker
from .training.usual import usual_sampling

_failed: dict[tuple[str, str, Any], str] = {}
"""Why a concept could not be calibrated, by its key, checkpoint and clip skip, where trying again would take long."""


def calibrate_all(p: Any, concepts: Sequence[Concept]) -> list[str]:
    """Calibrate concepts on the loaded checkpoint, in the job ``p`` that runs. Return what the user is told of it.

    What fails or is skipped is left to the fixed scale. Where the job is interrupted nothing more is begun.
    """
    notes = []
    try:
        for concept in {concept.key: concept for concept in concepts}.values():
            if shared.state.interrupted or shared.state.stopping_generation:
                break
            key = concept.key, weights_of(shared.sd_model), clip_skip()
            notes.append(_failed.get(key) or _told(concept, key))
    finally:
        HOST.as_in_job(p, shared.sd_model)
    return notes


def _told(concept: Concept, key: tuple[str, str, Any]) -> str:
    started = time.monotonic()
    try:
        made = _calibrated(concept)
    except CalibrationStoppedError:
        return f"the calibration of {quoted(concept.text)} was stopped; the next one goes on from there"
    except GieError as error:
        return f"{quoted(concept.text)} could not be calibrated ({quoted(str(error))})"
    except Exception as error:  # whatever it is, the fixed scale erases
        errors.report(f"{TITLE}: {concept.text!r} could not be calibrated", exc_info=True)
        devices.torch_gc()
        _failed[key] = f"{quoted(concept.text)} could not be calibrated ({quoted(str(error))})"
        return _failed[key]
    seconds, info = time.monotonic() - started, made.info
    return (
        f"{quoted(concept.text)} was calibrated on this checkpoint in {seconds:.0f} s ({info.training['evaluations']} "
        f"UNet evaluations): scale {info.strength:g} where it is present. The next images need no calibration"
    )


def _calibrated(concept: Concept) -> Calibration:
    """Calibrate one concept and keep the file among the user's adapters."""
    model, folder = shared.sd_model, adapter_folders()[-1]
    _check_words(concept, model)
    weights, kept = weights_of(model), folder / "calibration"
    with usual_settings(), _progress(concept) as on_progress:
        maker = _image_maker(model)
        made = calibrate(
            maker, concept.text, weights, unchecked=default_scale(maker.base), folder=kept, on_progress=on_progress,
            should_stop=_is_stopped,
        )  # fmt: skip
    name = calibration_name(concept.key, weights, maker.conditions["clip_skip"])
    save_calibration(made, folder / f"{name}.safetensors")
    return made


def _check_words(concept: Concept, model: Any) -> None:
    """Raise OptionError where a textual inversion would stand for words of the texts that are read.

    Anybody may have made one, and the calibration stays.
    """
    neutral = neutral_prompts(family_and_heads(unet_of(model))[0])
    for text in (*neutral, *(one.text for one in naming_prompts(concept.text, neutral))):
        if inversions_in(text, model):
            raise OptionError(
                f"a textual inversion is called like words of {quoted(text)}, which a calibration reads; rename it"
            )


def _image_maker(model: Any) -> WebUIImageMaker:
    """Return the loaded checkpoint with the sampling that suits it. The job has its turn already."""
    usual = usual_sampling(family_and_heads(unet_of(model))[0])
    sampling = {"steps": usual["steps"], "cfg": usual["cfg"], "width": usual["side"], "height": usual["side"]}
    return WebUIImageMaker(sampler="DPM++ 2M", turn=nullcontext, **sampling)


def _is_stopped() -> bool:
    return bool(shared.state.interrupted or shared.state.skipped)


@contextmanager
def _progress(concept: Concept) -> Iterator[Any]:
    """Yield what shows the progress of a calibration in the page and the console.

    The job's own count begins anew afterwards. "Skip" skips the calibration alone.
    """
    state = shared.state
    before = state.job_count, state.sampling_steps, state.sampling_step, state.textinfo
    with tqdm(desc=f"calibrating {concept.text}", unit="evaluation") as bar:

        def on_progress(done: int, expected: int) -> None:
            bar.total = expected
            bar.update(done - bar.n)
            state.job_count, state.sampling_steps, state.sampling_step = 1, expected, done
            state.textinfo = f"calibrating {concept.text}"

        try:
            yield on_progress
        finally:
            state.job_count, state.sampling_steps, state.sampling_step, state.textinfo = before
            state.skipped = False
