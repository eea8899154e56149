"""Denoises random latents with a UNet of a usual size: what is measured, without a text encoder and a VAE."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass

import torch
from diffusers import DDIMScheduler

from lib_gie.core.call import LATENT_CHANNELS
from lib_gie.core.concepts import Concept
from lib_gie.core.encoding import EncodedConcept
from lib_gie.core.layers import find_cross_attention
from lib_gie.core.recorder import count_cells
from lib_gie.core.scales.adapter import Adapter, AdapterInfo
from lib_gie.core.scales.calibrated import Calibration, CalibrationInfo, Discriminant
from lib_gie.training.calibration.presence import readings_at
from lib_gie.training.fitting import READING

from .clocks import clock_of
from .unets import SIZES, build_bench_unet

CFG = 7.5
SCALE = -1.0
TOKENS = 2  # in a concept
_LENGTH = 77

Predict = Callable[[torch.Tensor, torch.Tensor, int], torch.Tensor]
"""Latents [B, 4, h, w], timestep, number of the step -> noise [B, 4, h, w]."""


@dataclass(frozen=True)
class Setting:
    """One measurement's UNet (see ``unets.SIZES``), image side in pixels, images at once, and steps (2 or more)."""

    size: str
    pixels: int
    batch: int = 1
    steps: int = 4


class Sampler:
    """Denoises random latents under random text states: a ``SamplingHost`` without prompts."""

    def __init__(self, setting: Setting, device: torch.device):
        self.device, self.family = device, SIZES[setting.size].family
        self.unet = build_bench_unet(SIZES[setting.size], device)
        self.dtype, self._random = self.unet.dtype, torch.Generator().manual_seed(0)
        self._scheduler = DDIMScheduler()
        self._clock = clock_of(device)
        self.seconds: list[float] = []
        self._around: Callable[[], AbstractContextManager[None]] = nullcontext
        self.use(setting)

    def use(self, setting: Setting) -> None:
        """Go on with another setting of the same size."""
        batch, side, width = setting.batch, setting.pixels // 8, self.unet.config.cross_attention_dim
        self.setting = setting
        self.latents = self._draw(batch, 4, side, side)  # [B, 4, h, w]
        self.states = self._draw(2 * batch, _LENGTH, width)  # [2 B, L, D], unconditional rows first

    def _draw(self, *shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=self._random).to(self.device, self.dtype)

    def encode(self, concept: Concept) -> EncodedConcept:
        """Give a concept random text states [L, D]."""
        return EncodedConcept(concept, self._draw(*self.states.shape[1:]), ["a"] * TOKENS)

    def undisturbed(self) -> AbstractContextManager[None]:
        """Make a context for UNet calls of the core's own: calls of these UNets leave nothing behind."""
        return nullcontext()

    def adapter(self) -> Adapter:
        """Make an adapter that fits the UNet and gives a scale below 0."""
        heads = [layer.heads for layer in find_cross_attention(self.unet)]
        adapter = Adapter(AdapterInfo(self.family, sum(heads), ("concept",), (2 * SCALE, 0.0), READING))
        torch.nn.init.constant_(adapter.out.bias, 10 * SCALE)
        return adapter.requires_grad_(False)

    def calibration(self) -> Calibration:
        """Make a calibration that fits the UNet and finds the concept half present in every prompt."""
        side = self.setting.pixels // 8
        readings = readings_at((side, side))
        inputs = len(readings) * count_cells((side, side), LATENT_CHANNELS)
        info = CalibrationInfo(self.family, "random", ("concept",), readings, inputs, SCALE, (-1.0, 1.0))
        nothing = torch.zeros(inputs)
        return Calibration(info, Discriminant(nothing, torch.ones(inputs), nothing))

    def noise(self, latents: torch.Tensor, timestep: torch.Tensor, states: torch.Tensor) -> torch.Tensor:
        """Call the UNet once: states [R, L, D] -> [R, 4, h, w]."""
        rows = len(states)
        more = {}
        if self.family == "sdxl":
            pooled = torch.zeros(rows, 1280, device=self.device, dtype=self.dtype)  # [R, 1280]
            sizes = torch.full((rows, 6), self.setting.pixels, device=self.device, dtype=self.dtype)  # [R, 6]
            more["added_cond_kwargs"] = {"text_embeds": pooled, "time_ids": sizes}
        repeated = latents.repeat(rows // len(latents), 1, 1, 1)  # [R, 4, h, w]
        return self.unet(repeated, timestep, encoder_hidden_states=states, **more).sample

    def guided(
        self, latents: torch.Tensor, timestep: torch.Tensor, number: int, states: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Return the guided noise under ``states`` [2 B, L, D] (by default the sampler's): [B, 4, h, w]."""
        states = self.states if states is None else states  # [2 B, L, D]
        without, conditional = self.noise(latents, timestep, states).chunk(2)  # [B, 4, h, w] each
        return without + CFG * (conditional - without)

    @contextmanager
    def watched(self, around: Callable[[], AbstractContextManager[None]]) -> Iterator[None]:
        """Have each step's prediction run in a context of its own that ``around`` makes."""
        self._around = around
        try:
            yield
        finally:
            self._around = nullcontext

    @torch.no_grad()
    def sample(self, predict: Predict) -> torch.Tensor:
        """Return the sampled latents [B, 4, h, w], and keep how long each step took in ``seconds``."""
        self._scheduler.set_timesteps(self.setting.steps)
        steps = self._scheduler.timesteps  # [steps], on the CPU, where the scheduler looks numbers up by them
        told = steps.to(self.device)  # [steps], for the UNet, so that no step waits for its copy
        latents = self.latents
        self._clock.start()
        for number, (timestep, there) in enumerate(zip(steps, told, strict=True)):
            with self._around():
                noise = predict(latents, there, number)  # [B, 4, h, w]
            latents = self._scheduler.step(noise, timestep, latents).prev_sample
            self._clock.tick()
        self.seconds = self._clock.stop()
        return latents
