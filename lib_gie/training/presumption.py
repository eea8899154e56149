"""What a calibration says of prompts before any image is made of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch

from lib_gie.core.scales.calibrated import Calibration
from lib_gie.errors import GieError

from .calibration.counted import CalibrationStoppedError, Counted, OnProgress
from .calibration.presence import read_prompts
from .image_maker import Calibrator
from .labels import Label, Sample
from .prompts import webui_syntax
from .search import Search

SURE = 0.95
"""The presence from which on a calibration is believed that a prompt brings the concept in."""


@dataclass(frozen=True)
class Presumption:
    """The scale of prompts with the concept, and how present it is in those that imply it.

    ``scale``: w where the concept is present in full, below 0. ``presence``: 0 to 1, by prompt.
    """

    scale: float
    presence: Mapping[str, float]

    def is_sure(self, sample: Sample) -> bool:
        """Tell whether it is known without an image that the prompt brings the concept in.

        Of a prompt with the WebUI's syntax it is not: networks, parts and weights say what a calibration cannot know.
        """
        if webui_syntax(sample.prompt):
            return False
        return sample.kind == "explicit" or self.presence.get(sample.prompt, 0.0) >= SURE

    def search(self, sample: Sample, grid: Sequence[float]) -> Search:
        """Return the search for a sample's label. ``grid``: of samples about which nothing is sure.

        For others it is looked whether the concept is gone at the presumed scale, and only if not, at which it is.
        """
        if not self.is_sure(sample):
            return Search(grid)
        return Search((0.0, self.scale, *(scale for scale in grid if scale < self.scale)), first=1)

    def label(self, sample: Sample) -> Label:
        """Return the label of a sample of which no image is made."""
        return Label(sample, self.scale, True, None)


def search_by(presumption: Presumption | None, grid: Sequence[float]) -> Callable[[Sample], Search]:
    """Return what makes each sample's search: over the whole ``grid``, where nothing is presumed."""

    def search(sample: Sample) -> Search:
        return Search(grid) if presumption is None else presumption.search(sample, grid)

    return search


def presume_or_say_why(
    maker: Calibrator,
    calibrated: Callable[[], Calibration],
    samples: Sequence[Sample],
    on_progress: OnProgress = lambda done, expected: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> tuple[Presumption | None, str]:
    """Return what the concept's calibration says of samples; None and the reason where every prompt is to be labelled.

    ``calibrated``: returns the calibration, or makes it. Labels of all prompts tell as much, so nothing is raised but
    CalibrationStoppedError.
    """
    try:
        told = presume(maker, calibrated(), samples, on_progress, should_stop)
    except CalibrationStoppedError:
        raise
    except GieError as error:
        return None, f"it could not be calibrated ({error})"
    return told, "" if told else "its calibration was not seen to erase it"


def presume(
    maker: Calibrator,
    calibration: Calibration,
    samples: Sequence[Sample],
    on_progress: OnProgress = lambda done, expected: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Presumption | None:
    """Return what a calibration says of samples; None where the concept was not seen to be gone at its strength.

    It takes two UNet evaluations for each prompt that implies the concept. Raises CalibrationStoppedError where it was
    stopped, ErasureError where the model predicts numbers that are not finite.
    """
    info = calibration.info
    if not info.training.get("seen_gone"):
        return None
    prompts = list(dict.fromkeys(sample.prompt for sample in samples if sample.kind == "implicit"))
    if not prompts or not info.tells_presence:
        return Presumption(info.strength, {})
    counted = Counted(maker, len(prompts) * len(info.readings), on_progress, should_stop)
    inputs = read_prompts(counted, info.readings, prompts)  # [B, inputs]
    with torch.no_grad():
        presence = calibration.presence(inputs[..., None])  # [B]
    return Presumption(info.strength, dict(zip(prompts, presence.tolist(), strict=True)))
