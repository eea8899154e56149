"""The scale at which a concept is gone, found from what the UNet predicts and checked on a few small samplings."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch

from lib_gie.core.call import LATENT_CHANNELS, noise_of
from lib_gie.options import DEFAULT_SCALE, LOWEST_SCALE
from lib_gie.training.judges.self_judge import SelfJudge
from lib_gie.training.noise import predicted_clean, predicted_noise

from .counted import Counted

PLACES = ((800, 0), (800, 1), (700, 0), (700, 1), (600, 0), (600, 1))
"""Timestep and seed of the noise at which directions are compared."""

_COARSE = (-0.5, -0.7, -1.0, -1.4, -2.0, -2.8, -4.0, -5.6, -8.0, -11.2, -16.0)
_HALVINGS = 3
IMAGES, STEPS = 4, 10
"""Samplings that are looked at, and steps of each."""

STRONGER = 1.25
"""Factor by which a scale grows that does not erase."""

WEAKER = 0.75
"""Factor of the scale that is tried where the first one erases, because weaker scales harm less of the rest. Chosen on
the demo model's validation prompts, beside the fixed scales that `evaluate --scale` measures there."""

LEFT = 0.25
"""Share of the scores without erasure. A single image of four may be misjudged; two that show the concept are more."""

_JUDGE_STEPS = (400, 500, 600, 700, 800)
_FIRST_SEED = 100


@dataclass(frozen=True)
class Strength:
    """A scale that erases. ``cancels``: the one at which least of the concept's direction is left, see ``Agreement``.

    ``shows``: whether the judge sees the concept in images without erasure; None: there was no reason to look.
    ``is_gone``: whether it saw nothing of it at ``scale``.
    """

    scale: float
    cancels: float
    shows: bool | None
    is_gone: bool


class Agreement:
    """How much of a concept is left in what the UNet predicts under its bare text, when it is erased at a scale.

    That is <e_w(c) - e(""), e(c) - e("")> / |e(c) - e("")|^2 for pure noise, mean of PLACES: 1 at w = 0, and 0 where
    the concept says no more than the empty text. It is the same for predicted noise and velocity. It is the zero-shot
    classifier of Li et al. (2023) turned round.
    """

    evaluations = len(PLACES) * (2 + len(_COARSE) + _HALVINGS)

    def __init__(self, counted: Counted, concept: str, size: tuple[int, int]):
        self._counted, self._concept = counted, concept
        noises = {seed: noise_of(seed, (1, LATENT_CHANNELS, *size)) for _, seed in PLACES}
        self._noises = torch.cat([noises[seed] for _, seed in PLACES])  # [P, 4, h, w]
        self._steps = torch.tensor([timestep for timestep, _ in PLACES])  # [P]
        self._empty = self._output("")  # [P, 4, h, w]
        self._direction = self._output(concept) - self._empty  # [P, 4, h, w]
        self._length = self._direction.square().flatten(1).sum(1)  # [P]

    @property
    def exists(self) -> bool:
        """Tell whether the concept's text changes what the UNet predicts."""
        return bool((self._length > 0).all())

    def _output(self, text: str, scale: float | None = None) -> torch.Tensor:
        count = len(PLACES)
        given = () if scale is None else (self._concept, torch.full((count,), scale))
        return self._counted.predict(self._noises, self._steps, [text] * count, *given)

    def at(self, scale: float) -> float:
        """Return the agreement at a scale."""
        found = self._output(self._concept, scale) - self._empty  # [P, 4, h, w]
        inner = (found * self._direction).flatten(1).sum(1)  # [P]
        return float((inner / self._length).mean())

    def root(self) -> float:
        """Return the weakest scale at which nothing is left; of a few that are tried the best if there is none."""
        weak, seen = 0.0, {}
        for strong in _COARSE:
            seen[strong] = self.at(strong)
            if seen[strong] <= 0:
                break
            weak = strong
        else:
            return min(seen, key=lambda scale: seen[scale])
        for _ in range(_HALVINGS):
            middle = (weak + strong) / 2
            weak, strong = (weak, middle) if self.at(middle) <= 0 else (middle, strong)
        return strong


class Samplings:
    """A few images of the bare concept, sampled in a few steps of DDIM (Song et al., 2021) and judged by the model."""

    evaluations = IMAGES * (2 * STEPS + 2 * len(_JUDGE_STEPS))

    def __init__(self, counted: Counted, concept: str, size: tuple[int, int], cfg: float):
        self._counted, self._concept, self._cfg = counted, concept, cfg
        self._noises = torch.cat([noise_of(_FIRST_SEED + k, (1, LATENT_CHANNELS, *size)) for k in range(IMAGES)])
        self._judge = SelfJudge(counted, concept, _JUDGE_STEPS, noises=1)
        self._before = self.scores(0.0)

    def scores(self, scale: float) -> torch.Tensor:
        """Return how much the concept shows in each image that is made at a scale, float32 [IMAGES]."""
        latents = self._sampled(scale)  # [B, 4, h, w]
        return self._judge.scores(latents, [self._concept] * IMAGES)

    @property
    def shows(self) -> bool:
        """Tell whether the concept shows without erasure."""
        return bool(self._before.mean() > 0)

    def is_gone(self, scale: float) -> bool:
        """Tell whether the images show, on the average, no more than LEFT of what they show without erasure.

        An image that is far from the concept makes up for none that shows it, so no score counts as less than 0.
        """
        return bool(self.scores(scale).clamp_min(0).mean() < LEFT * self._before.mean())

    def _sampled(self, scale: float) -> torch.Tensor:
        maker, x, last = self._counted.maker, self._noises, len(self._counted.maker.alphas_cumprod) - 1
        times = torch.linspace(last, 0, STEPS + 1).round().long().tolist()
        for now, after in pairwise(times):
            steps = torch.full((IMAGES,), now)
            output = self._guided(x, steps, scale)  # [B, 4, h, w]
            noise, clean = (told(maker, output, x, steps) for told in (predicted_noise, predicted_clean))
            later = maker.alphas_cumprod[after]
            x = later.sqrt() * clean + (1 - later).sqrt() * noise
        return x

    def _guided(self, x: torch.Tensor, steps: torch.Tensor, scale: float) -> torch.Tensor:
        """Return the output with guidance, float32 [B, 4, h, w]; rows of the empty text are erased from at scale 0."""
        scales = torch.cat([torch.full((IMAGES,), scale), torch.zeros(IMAGES)])
        texts = [self._concept] * IMAGES + [""] * IMAGES
        output = self._counted.predict(torch.cat([x, x]), steps.repeat(2), texts, self._concept, scales)
        with_text, without = output.chunk(2)
        return without + self._cfg * (with_text - without)


def find_strength(counted: Counted, concept: str, size: tuple[int, int], cfg: float) -> Strength:
    """Find a scale at which a concept is gone, and which is no stronger than needed, with the evaluations left."""
    agreement = Agreement(counted, concept, size)
    if not agreement.exists:  # the model does not read the concept's words: there is nothing to be measured
        return Strength(DEFAULT_SCALE, DEFAULT_SCALE, None, False)
    scale = cancels = agreement.root()
    samplings = Samplings(counted, concept, size, cfg)
    if not samplings.shows:
        return Strength(scale, cancels, False, False)
    if samplings.is_gone(scale):
        if counted.left >= Samplings.evaluations and samplings.is_gone(WEAKER * scale):
            scale *= WEAKER
        return Strength(scale, cancels, True, True)
    while counted.left >= Samplings.evaluations and STRONGER * scale >= LOWEST_SCALE:
        scale *= STRONGER
        if samplings.is_gone(scale):
            return Strength(scale, cancels, True, True)
    return Strength(scale, cancels, True, False)
