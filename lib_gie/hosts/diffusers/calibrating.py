"""Calibrates concepts on a pipeline of any class that is erased from, and keeps what was found."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from lib_gie.assets import calibrations_folder
from lib_gie.core.concepts import Concept
from lib_gie.core.layers import family_of, find_cross_attention
from lib_gie.core.scales.calibrated import Calibration, save_calibration
from lib_gie.demo.fixed_scale import default_scale
from lib_gie.demo.sampling_settings import CFG, FAMILY
from lib_gie.errors import UnsupportedModelError
from lib_gie.hosts.library import InstalledAdapter, calibration_for, calibration_name
from lib_gie.training.calibration import calibrate

from .predictor import PipelinePredictor
from .weights import weights_digest

CLIP_SKIP = 1
"""Concepts are calibrated with all of the text encoder's layers, as the WebUI counts them."""

_USUAL_CFG = 7.0
_WITH_PICTURES = "ip_image_proj"


@dataclass(frozen=True)
class Made:
    """A calibration that was made now.

    ``spared``: how many of its UNet evaluations were not made now, but kept from an earlier calibration. ``path``: its
    file; None where it could not be kept, for that ``reason``.
    """

    calibration: Calibration
    name: str
    spared: int
    path: Path | None
    reason: str = ""

    @property
    def evaluations(self) -> str:
        """How many UNet evaluations it took, in words."""
        kept = f", of which {self.spared} were kept from an earlier calibration" if self.spared else ""
        return f"{self.calibration.info.training['evaluations']} UNet evaluations{kept}"


def kept_calibration(pipe: Any, concept: Concept) -> InstalledAdapter | None:
    """Return the kept calibration of a concept on a pipeline's weights, if there is one."""
    return calibration_for(concept.key, weights_digest(pipe), CLIP_SKIP, [calibrations_folder()])


def calibration_of(pipe: Any, concept: Concept) -> Calibration:
    """Return the kept calibration of a concept on a pipeline's weights; if there is none, make one and keep it.

    A bar on standard error shows how far that has come. Raises what ``calibrate_now`` does.
    """
    kept = kept_calibration(pipe, concept)
    if kept is not None and isinstance(kept.adapter, Calibration):
        return kept.adapter
    return calibrate_now(pipe, concept).calibration


def calibrate_now(pipe: Any, concept: Concept, implied: Sequence[str] = (), path: Path | None = None) -> Made:
    """Calibrate a concept on a pipeline, and keep it. ``path``: its file; None: in ``assets.calibrations_folder``.

    ``implied``: prompts that imply the concept, if some are known. What was read of neutral prompts stays in that
    folder, also if it is interrupted: the next calibration on these weights goes on from there.

    Raises UnsupportedModelError for pipelines that cannot be asked, ConceptError for a concept that cannot be encoded.
    """
    folder, weights = calibrations_folder(), weights_digest(pipe)
    reason = _unusable(folder)
    with CalibrationBar(concept.text) as told, _interruptible(not reason):
        predictor = _predictor(pipe)
        found = calibrate(
            predictor, concept.text, weights, implied=implied, unchecked=default_scale(predictor.base),
            folder=None if reason else folder, on_progress=told,
        )  # fmt: skip
    name = calibration_name(concept.key, weights, CLIP_SKIP) if path is None else path.stem
    spared = found.info.training["evaluations"] - told.done
    if path is None and reason:
        return Made(found, name, spared, None, reason)
    path = path or folder / f"{name}.safetensors"
    save_calibration(found, path)
    return Made(found, name, spared, path)


def _predictor(pipe: Any) -> PipelinePredictor:
    config = pipe.unet.config
    if config.encoder_hid_dim_type == _WITH_PICTURES:
        raise UnsupportedModelError(
            "an IP-Adapter is loaded, which shows the UNet pictures beside the text; calibrate the concept before it "
            "is loaded, and the calibration serves with it as well"
        )
    base = family_of(find_cross_attention(pipe.unet))
    cfg = CFG if base == FAMILY else 1.0 if config.time_cond_proj_dim is not None else _USUAL_CFG
    return PipelinePredictor(pipe, base, name=f"{type(pipe).__name__}, CFG {cfg:g}", cfg=cfg)


def _unusable(folder: Path) -> str:
    """Say why nothing can be kept in a folder, "" where it can."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        return f"{folder} cannot be made ({error.strerror})"
    return "" if os.access(folder, os.W_OK | os.X_OK) else f"{folder} cannot be written to"


class CalibrationBar:
    """Shows on standard error how many UNet evaluations are done.

    ``done``: how many. The count of tqdm's bar stays at 0 where the user has switched bars off.
    """

    def __init__(self, concept: str):
        self.done = 0
        self._bar = tqdm(desc=f"calibrating {concept[:40]}", unit=" evaluations", delay=0.5)

    def __enter__(self) -> CalibrationBar:
        return self

    def __call__(self, done: int, expected: int) -> None:
        self._bar.total = expected
        self._bar.update(done - self.done)
        self.done = done

    def __exit__(self, *raised: object) -> None:
        self._bar.close()


@contextmanager
def _interruptible(is_kept: bool) -> Iterator[None]:
    """Say of an interruption what the next try will have."""
    try:
        yield
    except KeyboardInterrupt as error:
        stays = "what was read so far is kept, and the next try goes on from there" if is_kept else "nothing is kept"
        raise KeyboardInterrupt(f"the calibration was interrupted; {stays}") from error
