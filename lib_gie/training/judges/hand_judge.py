"""A person as the judge: shown one image at every scale, they click on the one that suits."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from lib_gie.training.image_maker import Host, Made

from .base import Uncalibrated, Verdict

Ask = Callable[[torch.Tensor, str, str], int]
"""Images of one prompt, the weakest scale first (float32 [B, 3, H, W], 0 to 1), the prompt and the concept -> the
number of the first image that is free of the concept, B if none is."""


class HandJudge(Uncalibrated):
    """Score 1 for the images before the one that was clicked on, 0 from there on."""

    name = "by hand"
    whole_rows = True

    def __init__(self, concept: str, ask: Ask):
        self.concept, self._ask = concept, ask

    def look(self, made: Made, prompts: Sequence[str]) -> list[Verdict]:
        """One question for the whole row of scales."""
        chosen = self._ask(made.images, prompts[0], self.concept)
        return [Verdict(float(number < chosen)) for number in range(len(prompts))]

    def shows(self, verdict: Verdict, before: Verdict) -> bool:
        """Whether the image came before the one that was clicked on."""
        return verdict.score > 0.5


def build(host: Host, concept: str, ask: Ask | None = None) -> HandJudge:
    """``ask``: None opens a page of its own on this machine (``hand_page``)."""
    if ask is None:
        from .hand_page import Page

        ask = Page().ask
    return HandJudge(concept, ask)
