"""An image maker whose UNet evaluations are counted, and which can be interrupted between two batches."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from lib_gie.errors import ErasureError
from lib_gie.training.image_maker import Calibrator

MOST_EVALUATIONS = 1000
"""UNet evaluations, of one row each, that calibrating a concept takes at most, whatever the concept and the lists."""

BATCH = 32
"""Rows after which it can be interrupted, and progress is told."""

OnProgress = Callable[[int, int], None]
"""Is called with the evaluations that are done and those that are expected in all."""


class CalibrationStoppedError(ErasureError):
    """The user stopped a calibration; the next one goes on with what it has read of neutral prompts."""


class Counted:
    """Evaluates the UNet of an image maker in batches.

    ``done``: how many rows so far; ``expected``: in all. ``spared``: how many were not made because an earlier
    calibration's were kept; these count as made, so that the outcome is the same with and without them.
    """

    def __init__(self, maker: Calibrator, expected: int, on_progress: OnProgress, should_stop: Callable[[], bool]):
        self.maker, self.done, self.expected, self.spared = maker, 0, expected, 0
        self._on_progress, self._should_stop = on_progress, should_stop

    @property
    def left(self) -> int:
        """The evaluations that may still be made."""
        return MOST_EVALUATIONS - self.done - self.spared

    def finish(self) -> None:
        """Tell that no further evaluations are needed; often there are fewer than were expected."""
        self._on_progress(self.done, self.done)

    @property
    def alphas_cumprod(self) -> torch.Tensor:
        """The image maker's."""
        return self.maker.alphas_cumprod

    @property
    def predicts_velocity(self) -> bool:
        """The image maker's."""
        return self.maker.predicts_velocity

    def as_in(self, text: str, prompt: str) -> str:
        """Return the text: nothing is calibrated with a prompt's own networks."""
        return text

    def predict(
        self,
        latents: torch.Tensor,
        timesteps: torch.Tensor,
        texts: Sequence[str],
        concept: str = "",
        scales: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Return the UNet's output, float32 [B, 4, h, w], see ``Predictor.predict``.

        Raises CalibrationStoppedError where the user has stopped it, ErasureError for numbers that are not finite.
        """
        found = []
        for start in range(0, len(latents), BATCH):
            if self._should_stop():
                raise CalibrationStoppedError("the calibration was stopped")
            rows = slice(start, start + BATCH)
            chosen = None if scales is None else scales[rows]
            found.append(self.maker.predict(latents[rows], timesteps[rows], texts[rows], concept, chosen))
            self.done += len(found[-1])
            self._on_progress(self.done, max(self.done, self.expected))
        output = torch.cat(found)  # [B, 4, h, w]
        if not torch.isfinite(output).all():
            raise ErasureError(
                "the model predicts numbers that are not finite, so nothing can be calibrated on it; run it in full "
                "precision, or take a fixed scale"
            )
        return output
