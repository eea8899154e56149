"""A person as the judge: shown one image at every scale, they click on the one that suits."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from lib_gie.training.image_maker import ImageMaker, Made

from .base import Judge, Verdict

Ask = Callable[[torch.Tensor, str, str], int]
"""Images of one prompt, the weakest scale first (float32 [B, 3, H, W], 0 to 1), the prompt and the concept -> the
number of the first image that is free of the concept, B if none is."""


class HandJudge(Judge):
    """Score 1 for the images before the one that was clicked on, 0 from there on."""

    summary = "you: a page shows an image at every scale, and you click on the first without it"
    asks_person = True
    name = "by hand"
    whole_rows = True

    def __init__(self, concept: str, ask: Ask):
        self.concept, self._ask = concept, ask

    @classmethod
    def build(cls, maker: ImageMaker, concept: str, ask: Ask | None = None) -> HandJudge:
        """Return the judge. ``ask``: None serves a page on this machine (see ``hand_page``)."""
        if ask is None:
            from .hand_page import Page  # starts a server: not where a host asks by itself

            ask = Page().ask
        return cls(concept, ask)

    def look(self, made: Made, prompts: Sequence[str]) -> list[Verdict]:
        """Ask one question for the whole row of scales."""
        chosen = self._ask(made.images, prompts[0], self.concept)
        return [Verdict(float(number < chosen)) for number in range(len(prompts))]
