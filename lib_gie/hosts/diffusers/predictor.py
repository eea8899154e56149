"""A diffusers pipeline as what calibrating and labelling ask (see ``lib_gie.training.image_maker``)."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import torch

from lib_gie.core.call import LAST_TIMESTEP, LATENT_CHANNELS
from lib_gie.core.concepts import Concept
from lib_gie.core.encoding import EncodedConcept
from lib_gie.core.recorder import Reading
from lib_gie.core.session import erasing, read_inputs
from lib_gie.errors import UnsupportedModelError

from .classes import layout_of
from .compiled import as_written
from .model import check_model
from .text_calls import TextCalls
from .texts import concept_tokens, encode_concept, encode_texts

_ROWS, _PIXELS = 48, 8 * 64 * 64
"""The most rows of one UNet call outside of sampling, and of the latents' pixels in all of them."""

_LEAST_SIGNAL = 2.0**-24  # a schedule may end in pure noise, by which nothing can be divided


class PipelinePredictor:
    """Asks the UNet of a pipeline, of any class that is erased from, what it predicts for texts alone.

    ``base``: model family. ``cfg``: guidance of images that are sampled with it. ``size``: pixels (width, height), None
    for the model's own. Raises UnsupportedModelError for other pipelines.
    """

    def __init__(self, pipe: Any, base: str, *, name: str, cfg: float, size: tuple[int, int] | None = None):
        self.pipe, self.base, self.cfg, self.size = pipe, base, cfg, size
        self.description = name
        self._layout = layout_of(pipe)[0]
        check_model(pipe, self._layout)
        self._calls = TextCalls(pipe)

    @property
    def conditions(self) -> dict[str, float]:
        """What else the images depend on, by the names of adapters' files."""
        return {"clip_skip": 1, "cfg": self.cfg}

    @property
    def latent_size(self) -> tuple[int, int]:
        """Height and width of the latents."""
        own, factor = self.pipe.unet.config.sample_size, self.pipe.vae_scale_factor
        height, width = (own, own) if isinstance(own, int) else tuple(own)
        if self.size is not None:
            width, height = (pixels // factor for pixels in self.size)
        return height, width

    def tokens(self, concept: str) -> list[str]:
        """Return the concept's own tokens."""
        return concept_tokens(self.pipe, concept)

    def encoded(self, concept: str) -> EncodedConcept:
        """Return a concept as the text encoder sees it."""
        return encode_concept(self.pipe, self._layout, Concept(concept), {})

    def encode(self, texts: Sequence[str]) -> torch.Tensor:
        """Return text states [B, 77, D]; each different text is encoded once."""
        return encode_texts(self.pipe, self._layout, texts)[0]

    def as_in(self, text: str, prompt: str) -> str:
        """Return the text: no prompt changes the model here."""
        return text

    @property
    def alphas_cumprod(self) -> torch.Tensor:
        """The share of signal at every timestep, float32 [timesteps].

        Raises UnsupportedModelError where the scheduler has none.
        """
        alphas = getattr(self.pipe.scheduler, "alphas_cumprod", None)
        if not isinstance(alphas, torch.Tensor):
            raise UnsupportedModelError(
                f"{type(self.pipe.scheduler).__name__} has no alphas_cumprod, so it is not known how much noise a "
                f"timestep has; set another scheduler of Stable Diffusion"
            )
        return alphas.float().cpu().clamp_min(_LEAST_SIGNAL)

    @property
    def predicts_velocity(self) -> bool:
        """Whether the UNet's output is the velocity."""
        return bool(self.pipe.scheduler.config.prediction_type == "v_prediction")

    @torch.no_grad()
    def predict(
        self,
        latents: torch.Tensor,
        timesteps: torch.Tensor,
        texts: Sequence[str],
        concept: str = "",
        scales: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Return the UNet's output for rows that are all conditional, float32 [B, 4, h, w]; see Predictor."""
        unet = self.pipe.unet
        own = None if scales is None else self.encoded(concept)
        found, most = [], _rows_of(latents.shape[2:])
        for start in range(0, len(latents), most):
            rows = slice(start, start + most)
            states, pooled = encode_texts(self.pipe, self._layout, texts[rows])  # [R, 77, D], [R, P]
            call = self._calls.make(latents[rows], timesteps[rows], states, pooled)
            with nullcontext() if own is None or scales is None else erasing(unet, own, scales[rows]), as_written(unet):
                output = call.run(unet).sample
            found.append(output[:, :LATENT_CHANNELS].float().cpu())  # [R, 4, h, w]
        return torch.cat(found)

    @torch.no_grad()
    def read(self, prompts: Sequence[str], concepts: Sequence[str], readings: Sequence[Reading]) -> list[torch.Tensor]:
        """Return what adapters with these readings would see, for each concept float32 [B, inputs, n]."""
        size, encoded = self.latent_size, [self.encoded(text) for text in concepts]
        found, most = [], _rows_of(size)
        for start in range(0, len(prompts), most):
            states, pooled = encode_texts(self.pipe, self._layout, prompts[start : start + most])  # [R, 77, D], [R, P]
            latents = torch.zeros(len(states), LATENT_CHANNELS, *size)  # [R, 4, h, w]
            timesteps = torch.full((len(states),), LAST_TIMESTEP)  # [R]
            call = self._calls.make(latents, timesteps, states, pooled)
            with as_written(self.pipe.unet):
                found.append(read_inputs(self.pipe.unet, encoded, readings, call.args, call.kwargs))
        return [torch.cat(parts) for parts in zip(*found, strict=True)]  # each [B, inputs, n]


def _rows_of(size: Sequence[int]) -> int:
    """Return how many rows of latents of this height and width go into one UNet call: few of large ones."""
    height, width = size
    return max(1, min(_ROWS, _PIXELS // (height * width)))
