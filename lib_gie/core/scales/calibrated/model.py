"""A calibration: a scale for a concept on one checkpoint, found from texts and a few UNet evaluations."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from lib_gie.core.layers import UNKNOWN
from lib_gie.core.recorder import Reading
from lib_gie.core.scales.input_range import InputRange, outside
from lib_gie.errors import AdapterError

from .discriminant import Discriminant
from .info import CALIBRATED, CalibrationInfo


@dataclass(frozen=True, eq=False)
class Calibration:
    """w = the strength found for the concept x the presence of the concept in the prompt, 0 to 1.

    The presence is read off the noise that the UNet predicts under the prompt for pure noise: see ``Discriminant``. No
    image is made for it. Where that tells nothing (``CalibrationInfo.tells_presence``), the concept counts as present
    in full in every prompt.
    """

    info: CalibrationInfo
    discriminant: Discriminant
    range: InputRange | None = None

    kind = CALIBRATED
    knows_its_range = True
    """It was made for prompts of all kinds, so it knows that there is nothing outside."""

    @property
    def readings(self) -> tuple[Reading, ...]:
        """Return the readings that give its inputs."""
        return self.info.readings

    @property
    def optional(self) -> tuple[Reading, ...]:
        """Return the readings that it can do without: none."""
        return ()

    def presence(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return how present the concept is, 0 to 1: float32 [rows, inputs, 1] -> [rows].

        Raises AdapterError where that is not finite, or the model gives another number of inputs.
        """
        if not self.info.tells_presence:
            return torch.ones(len(inputs))
        if inputs.shape[1] != self.info.inputs:
            raise AdapterError(
                f"this model predicts {inputs.shape[1]} numbers where the calibration for {self.info.concepts[0]!r} "
                f"reads {self.info.inputs}; calibrate it again on this model, or take a fixed scale"
            )
        low, high = self.info.ramp
        with torch.autocast(inputs.device.type, enabled=False):
            scores = self.discriminant.scores(inputs[..., 0])  # [rows]
        if not torch.isfinite(scores).all():
            raise AdapterError(
                f"it cannot be read from this model's output how present {self.info.concepts[0]!r} is, so nothing can "
                f"be erased; calibrate it again, or take a fixed scale"
            )
        return ((scores - low) / (high - low)).clamp(0, 1)

    @torch.no_grad()
    def scales(self, inputs: torch.Tensor | None, rows: int, tokens: int) -> torch.Tensor:
        """Return w: float32 [rows, inputs, 1] -> [rows, tokens]. Raises AdapterError without inputs."""
        if inputs is None:
            raise AdapterError("the calibration needs what the model predicts at pure noise and got nothing")
        found = self.info.strength * self.presence(inputs) + 0.0  # [rows]; no -0.0, which infotexts would show
        return found[:, None].expand(rows, tokens)  # [rows, tokens]

    def is_outside(self, inputs: torch.Tensor) -> torch.Tensor:
        """Tell which rows are unlike all that it was made from: float32 [rows, inputs, 1] -> bool [rows].

        Tiling, a LoRA or a prompt that is put together oddly may change what is predicted so much that it says nothing
        of the concept.
        """
        return outside(self.range, inputs)

    @property
    def in_full(self) -> float:
        """Return the answer from which the concept counts as present in full; 0 where nothing tells that."""
        return self.info.strength if self.info.tells_presence else 0.0

    def is_for(self, concept: str) -> bool:
        """Tell whether it is for a concept, given by its case-folded text."""
        return concept in {known.casefold() for known in self.info.concepts}

    def fits(self, family: str, heads: Sequence[int]) -> bool:
        """Tell whether a model of this family gives its inputs. Hosts see to it that it is the same checkpoint."""
        return family in (self.info.base, UNKNOWN)

    def check_model(self, family: str, heads: Sequence[int]) -> None:
        """Raise AdapterError for a model of another family."""
        if not self.fits(family, heads):
            raise AdapterError(
                f"the calibration for {', '.join(self.info.concepts)} was made on {self.info.base}, and this model is "
                f"{family}; calibrate the concept on this model, or take a fixed scale"
            )

    @property
    def weights_digest(self) -> str:
        """Return 12 hex digits of the SHA-256 of all that its scales depend on."""
        info = self.info
        said = f"{info.strength} {info.ramp} {info.tells_presence} {info.weights} {info.readings}"
        digest = hashlib.sha256(said.encode())
        known = {} if self.range is None else self.range.tensors()
        for _, value in sorted((self.discriminant.tensors() | known).items()):
            digest.update(value.detach().float().cpu().numpy().tobytes())
        return digest.hexdigest()[:12]
