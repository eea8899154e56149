"""The demo model's autoencoder: SD's architecture (f=8, four channels), one million parameters."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch.nn import functional as F

from lib_gie.randomness import undrawn

from .glyphs import OBJECTS
from .loop import run, step_seed
from .scenes import IMAGE_SIZE, draw

SCALING_FACTOR = 0.18215
"""SD 1.x's value. The latents are brought to the matching spread, so that every host's default fits."""

_CELL = 8  # pixels
CHANNELS = (32, 32, 64, 64)


def build_vae() -> AutoencoderKL:
    """Return an untrained autoencoder."""
    return AutoencoderKL(
        block_out_channels=CHANNELS,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=2,
        latent_channels=4,
        norm_num_groups=32,
        sample_size=64,
        scaling_factor=SCALING_FACTOR,
    )


def to_tensor(images: list[np.ndarray]) -> torch.Tensor:
    """Return drawn scenes (float [H, W, 3], 0 to 1) as a float32 batch [B, 3, H, W] from -1 to 1."""
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous() * 2 - 1  # [B, 3, H, W]


def random_images(rng: np.random.Generator, count: int) -> torch.Tensor:
    """Draw scenes with one to three objects: float32 [count, 3, H, W] from -1 to 1."""
    images = []
    for _ in range(count):
        objects = tuple(OBJECTS[i] for i in rng.permutation(len(OBJECTS))[: int(rng.integers(1, 4))])
        images.append(draw(objects, None, rng))
    return to_tensor(images)  # [B, 3, H, W]


def _crop(images: torch.Tensor, size: int, rng: np.random.Generator) -> torch.Tensor:
    """Cut a random square out of every image, along latent cells: [B, 3, H, W] -> [B, 3, size, size]."""
    corners = rng.integers(0, (IMAGE_SIZE - size) // _CELL + 1, (len(images), 2)) * _CELL
    return torch.stack([image[:, y : y + size, x : x + size] for image, (x, y) in zip(images, corners, strict=True)])


@dataclass(frozen=True)
class VaePhase:
    """One part of the autoencoder's training, with one optimizer."""

    name: str
    steps: int
    batch: int
    size: int  # pixels of the crops
    rate: float
    muon_rate: float | None
    squared: float  # weight of the squared error beside the absolute one
    decay: float


PHASES = (
    VaePhase("crops", 1500, 16, 32, 1e-3, None, 1.0, 0.999),
    VaePhase("whole", 900, 8, IMAGE_SIZE, 5e-4, 0.003, 5.0, 0.99),
)
"""First crops, which are mostly object, then whole images."""


@undrawn()
def train_vae(seed: int, folder: Path, noise: float = 0.1) -> AutoencoderKL:
    """Train on reconstruction with a small KL term, decoding from noisy latents, as the UNet's will be."""
    torch.manual_seed(seed)
    vae = build_vae()
    for number, phase in enumerate(PHASES):
        _train_phase(vae, phase, step_seed(seed, -10 - number) % 2**32, folder / f"vae-{phase.name}.pt", noise)
    vae.eval()
    _rescale(vae, seed)
    return vae


def _train_phase(vae: AutoencoderKL, phase: VaePhase, seed: int, state_path: Path, noise: float) -> None:
    def loss_of_step(step: int) -> torch.Tensor:
        torch.manual_seed(step_seed(seed, step))
        rng = np.random.default_rng(step_seed(seed, step))
        images = _crop(random_images(rng, phase.batch), phase.size, rng)  # [B, 3, size, size]
        posterior = vae.encode(images).latent_dist
        latents = posterior.sample()  # [B, 4, h, w]
        spread = latents.detach().std()
        decoded = vae.decode(latents + noise * spread * torch.randn_like(latents)).sample  # [B, 3, size, size]
        error = F.l1_loss(decoded, images) + phase.squared * F.mse_loss(decoded, images)
        return error + 1e-6 * posterior.kl().mean()

    average = run(
        vae,
        loss_of_step,
        steps=phase.steps,
        rate=phase.rate,
        muon_rate=phase.muon_rate,
        decay=phase.decay,
        state_path=state_path,
        label=f"autoencoder, {phase.name}",
    )
    vae.load_state_dict(average.shadow)


@torch.no_grad()
def _rescale(vae: AutoencoderKL, seed: int) -> None:
    """Bring the latents to mean 0 and std 1 / SCALING_FACTOR by the two 1x1 convolutions around them, exactly."""
    images = random_images(np.random.default_rng(step_seed(seed, -1) % 2**32), 256)  # [256, 3, H, W]
    latents = torch.cat([vae.encode(chunk).latent_dist.mean for chunk in images.split(32)])  # [256, 4, h, w]
    mean, factor = latents.mean((0, 2, 3)), 1 / (SCALING_FACTOR * latents.std())  # [4], []
    quant, post = vae.quant_conv, vae.post_quant_conv
    quant.weight.mul_(factor)
    quant.bias[:4] = (quant.bias[:4] - mean) * factor
    quant.bias[4:] *= factor
    # the log-variance rows keep their own scale: var grows by factor**2
    quant.weight[4:] /= factor
    quant.bias[4:] = quant.bias[4:] / factor + 2 * factor.log()
    post.bias += (post.weight.flatten(1) * mean).sum(1)
    post.weight /= factor


@torch.no_grad()
def reconstruct(vae: AutoencoderKL, images: torch.Tensor) -> torch.Tensor:
    """Encode to the posterior's mean and decode: float32 [B, 3, H, W] from -1 to 1."""
    return torch.cat([vae.decode(vae.encode(chunk).latent_dist.mode()).sample for chunk in images.split(32)]).clamp(
        -1, 1
    )


def psnr(images: torch.Tensor, others: torch.Tensor) -> float:
    """Return the peak signal-to-noise ratio in dB between two batches from -1 to 1."""
    return float(10 * torch.log10(4 / F.mse_loss(images, others)))
