"""The machine that the demo model is trained on: a graphics card in bfloat16, or a processor in float32."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass

import torch

CPU_BATCHES, CARD_BATCHES = 1, 8
"""How many times a step's least batch is taken: a card is not busy with less."""


@dataclass(frozen=True)
class Machine:
    """Where and how precisely the training calculates. ``batches``: the factor by which its batches are larger."""

    device: torch.device
    batches: int = CPU_BATCHES

    @property
    def is_card(self) -> bool:
        """Return whether this is a graphics card."""
        return self.device.type == "cuda"

    @contextlib.contextmanager
    def precision(self) -> Iterator[None]:
        """Calculate in bfloat16 on a card. The weights stay in float32."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.is_card):
            yield


def this_machine(name: str = "auto") -> Machine:
    """Return the machine to train on, and have torch give the same results each time.

    ``name``: "auto", "cpu" or "cuda".
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS is reproducible with this alone
        torch.use_deterministic_algorithms(True, warn_only=True)
        torch.backends.cudnn.benchmark = False
        for kernels in ("flash", "mem_efficient", "cudnn"):  # their backward passes add up in any order
            getattr(torch.backends.cuda, f"enable_{kernels}_sdp")(False)
    return Machine(torch.device(name), CARD_BATCHES if name == "cuda" else CPU_BATCHES)
