"""Text encoder and UNet of the demo model, trained together on latents of drawn scenes."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import nn
from tqdm import tqdm

from lib_gie.randomness import undrawn

from .loop import load_state, run, save_state, step_seed
from .scenes import Scene, draw, sample_caption, sample_scene
from .text import LENGTH, WIDTH, ReducedVocabulary, build_text_encoder
from .vae import SCALING_FACTOR, to_tensor

CHANNELS = (64, 128, 128, 128)
HEADS = 8
TRAIN_TIMESTEPS, BETA_START, BETA_END = 1000, 0.00085, 0.012
OFFSET_CHANNEL = WIDTH - 1
"""Text channel that the UNet never looks at. The WebUI's emphasis divides by the mean of all states, which a trained
LayerNorm leaves near zero; the exported text encoder puts a constant into this channel, so that the mean is not."""

SHORT_LENGTH = 20
"""Tokens that the longest caption fits into. Most of the training is done at this length, which is cheaper; every fifth
step and the last tenth see all 77 positions."""


def build_demo_unet() -> UNet2DConditionModel:
    """Return an untrained UNet of SD 1.x's architecture: 16 cross-attention layers, 13 million parameters."""
    return UNet2DConditionModel(
        sample_size=8,
        block_out_channels=CHANNELS,
        down_block_types=("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
        up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
        attention_head_dim=HEADS,  # diffusers' name for the number of heads
        cross_attention_dim=WIDTH,
        layers_per_block=2,
    )


def alphas_cumprod() -> torch.Tensor:
    """Return SD's "scaled linear" noise schedule: float32 [1000]."""
    betas = torch.linspace(BETA_START**0.5, BETA_END**0.5, TRAIN_TIMESTEPS, dtype=torch.float64) ** 2  # [1000]
    return (1 - betas).cumprod(0).float()


def _scene_fields(scene: Scene) -> list:
    return [list(scene.objects), scene.background, scene.kind, scene.phrase]


@torch.no_grad()
def make_pool(vae: AutoencoderKL, seed: int, count: int, path: Path) -> tuple[list[Scene], torch.Tensor]:
    """Return scenes and their scaled latents (float32 [count, 4, 8, 8]), made once and kept at ``path``."""
    state = load_state(path)
    if state is None:
        rng = np.random.default_rng(step_seed(seed, -2) % 2**32)
        scenes, latents = [], []
        for _ in tqdm(range(0, count, 64), desc="latents", mininterval=5):
            chunk = [sample_scene(rng) for _ in range(64)]
            images = to_tensor([draw(scene.objects, scene.background, rng) for scene in chunk])  # [64, 3, H, W]
            latents.append(vae.encode(images).latent_dist.mode() * SCALING_FACTOR)  # [64, 4, h, w]
            scenes += chunk
        state = {"scenes": [_scene_fields(scene) for scene in scenes], "latents": torch.cat(latents)}
        save_state(path, state)
    return [Scene(tuple(fields[0]), *fields[1:]) for fields in state["scenes"]], state["latents"]


class TextToLatents(nn.Module):
    """Text encoder and UNet as one trainable module."""

    def __init__(self, vocabulary: ReducedVocabulary):
        super().__init__()
        self.vocabulary = vocabulary
        self.text = build_text_encoder(len(vocabulary))
        self.unet = build_demo_unet()
        self.register_buffer("channels", (torch.arange(WIDTH) != OFFSET_CHANNEL).float(), persistent=False)

    def encode(self, captions: list[str], length: int, share_clean: float = 0.0) -> torch.Tensor:
        """Return text states, float32 [B, length, width]. A share of the rows gets the empty caption's from EOS on.

        Without that, much of a word's meaning moves into EOS and padding, where no method that works on a concept's
        own tokens can reach it.
        """
        ids, ends = self.vocabulary.encode([*captions, ""], length)  # [B + 1, length], [B + 1]
        states = self.text(input_ids=ids).last_hidden_state * self.channels  # [B + 1, length, width]
        states, empty = states[:-1], states[-1:]  # [B, length, width], [1, length, width]
        after = torch.arange(length) >= ends[:-1, None]  # [B, length]
        clean = torch.rand(len(captions), 1) < share_clean  # [B, 1]
        return torch.where((after & clean)[..., None], empty, states)  # [B, length, width]


def _noise_loss(error: torch.Tensor, signal: torch.Tensor, colour_weight: float) -> torch.Tensor:
    """Return the weighted squared error of the predicted noise.

    ``error``: float32 [B, 4, h, w]. ``signal``: alphas_cumprod at the timesteps. The weights are Min-SNR-5 (Hang et
    al., 2023), times sqrt(1 + 1/SNR): the early, very noisy steps decide which object an image shows, and there errors
    of the noise are small and errors of the image large. ``colour_weight`` counts the error of the image's mean once
    more, in the image's own units: a plain background is one number per channel among h*w, too little to be learned
    beside the objects.
    """
    snr = signal / (1 - signal)  # [B]
    weight = snr.clamp(max=5) / snr * (1 + 1 / snr).sqrt()  # [B]
    loss = (weight * error.square().mean((1, 2, 3))).mean()
    if colour_weight:
        loss = loss + colour_weight * (error.mean((2, 3)).square().mean(1) / snr).mean()
    return loss


@dataclass(frozen=True)
class DiffusionPhase:
    """One part of the training.

    ``state``: its file in the folder. ``first``: the number of steps before it, so that no two steps of the training
    draw the same data. ``share_...``: see :func:`.scenes.sample_caption`.
    """

    state: str
    first: int
    steps: int
    rate: float
    decay: float = 0.999
    share_partial: float = 0.2
    share_background: float = 0.5
    colour_weight: float = 0.0


def phases(steps: int) -> tuple[DiffusionPhase, ...]:
    """Return the phases: first objects, then the background's colours, which harms the objects, then both together."""
    colours, both = steps * 14 // 75, steps * 2 // 5
    return (
        DiffusionPhase("diffusion.pt", 0, steps, 1e-3),
        DiffusionPhase("colours.pt", steps, colours, 1e-3, 0.995, share_background=0.9, colour_weight=1.0),
        DiffusionPhase(
            "both.pt", steps + colours, both, 6e-4, share_partial=0.05, share_background=0.6, colour_weight=0.15
        ),
    )


@undrawn()
def train_diffusion(
    vae: AutoencoderKL,
    vocabulary: ReducedVocabulary,
    reserved: frozenset[str],
    *,
    seed: int,
    steps: int,
    pool: int,
    folder: Path,
    batch: int = 32,
    share_empty: float = 0.1,
    share_clean: float = 0.6,
) -> TextToLatents:
    """Train from nothing, or go on from ``folder``. Return the averaged weights, ready to be exported."""
    scenes, latents = make_pool(vae, seed, pool, folder / "latents.pt")
    torch.manual_seed(seed)
    model = TextToLatents(vocabulary)
    signals = alphas_cumprod()

    def loss_of_step(phase: DiffusionPhase, step: int) -> torch.Tensor:
        number = phase.first + step
        torch.manual_seed(step_seed(seed, number))
        rng = np.random.default_rng(step_seed(seed, number))
        chosen = rng.integers(0, len(scenes), batch)
        shares = (phase.share_partial, phase.share_background)
        captions = [sample_caption(scenes[i], rng, reserved, *shares) for i in chosen]
        captions = ["" if rng.random() < share_empty else caption for caption in captions]
        length = LENGTH if step % 5 == 4 or step >= 0.9 * phase.steps else SHORT_LENGTH
        states = model.encode(captions, length, share_clean)  # [B, length, width]
        clean = latents[torch.from_numpy(chosen)]  # [B, 4, h, w]
        # one timestep in each of B equal strata reduces the variance at no cost
        timesteps = ((torch.arange(batch) + torch.rand(batch)) * (TRAIN_TIMESTEPS / batch)).long()  # [B]
        signal = signals[timesteps]  # [B]
        noise = torch.randn_like(clean)  # [B, 4, h, w]
        noisy = signal.sqrt()[:, None, None, None] * clean + (1 - signal).sqrt()[:, None, None, None] * noise
        return _noise_loss(model.unet(noisy, timesteps, states).sample - noise, signal, phase.colour_weight)

    for phase in phases(steps):
        average = run(
            model,
            functools.partial(loss_of_step, phase),
            steps=phase.steps,
            rate=phase.rate,
            decay=phase.decay,
            state_path=folder / phase.state,
            label=f"text and UNet ({phase.state.removesuffix('.pt')})",
        )
        model.load_state_dict(average.shadow)
    return model.eval()
