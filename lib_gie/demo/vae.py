"""The demo model's autoencoder: SD's architecture (f=8, four channels), one million parameters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch.nn import functional as F
from tqdm import tqdm

from lib_gie.randomness import undrawn

from .loop import run, step_seed
from .machine import Machine
from .pool import Pool, as_input

SCALING_FACTOR = 0.18215
"""SD 1.x's value. The latents are brought to the matching spread, so that every host's default fits."""

_CELL = 8  # pixels
_NOISE = 0.1  # in what is decoded while it is trained, relative to the latents' spread
CHANNELS = (32, 32, 64, 64)


def build_vae(size: int = 64) -> AutoencoderKL:
    """Return an untrained autoencoder for images of this many pixels per side."""
    return AutoencoderKL(
        block_out_channels=CHANNELS,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=2,
        latent_channels=4,
        norm_num_groups=32,
        sample_size=size,
        scaling_factor=SCALING_FACTOR,
    )


def to_tensor(images: list[np.ndarray]) -> torch.Tensor:
    """Return drawn scenes (float [H, W, 3], 0 to 1) as a float32 batch [B, 3, H, W] from -1 to 1."""
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous() * 2 - 1  # [B, 3, H, W]


def _crop(images: torch.Tensor, size: int, rng: np.random.Generator) -> torch.Tensor:
    """Cut a random square out of every image, along latent cells: [B, 3, H, W] -> [B, 3, size, size]."""
    corners = rng.integers(0, (images.shape[-1] - size) // _CELL + 1, (len(images), 2)) * _CELL
    return torch.stack([image[:, y : y + size, x : x + size] for image, (x, y) in zip(images, corners, strict=True)])


@dataclass(frozen=True)
class VaePhase:
    """One part of the autoencoder's training, with one optimizer.

    ``crop``: the share of the image's side that is cut out. ``squared``: the weight of the squared error beside the
    absolute one. ``muon_rate``: None for AdamW alone.
    """

    name: str
    steps: int
    batch: int
    crop: float
    rate: float
    muon_rate: float | None
    squared: float
    decay: float


FROM_NOTHING = (
    VaePhase("crops", 1500, 16, 0.5, 1e-3, None, 1.0, 0.999),
    VaePhase("whole", 900, 8, 1.0, 5e-4, 0.003, 5.0, 0.99),
)
"""First crops, which are mostly object, then whole images."""

FURTHER = (
    VaePhase("further crops", 2000, 16, 0.5, 7e-4, 0.003, 3.0, 0.99),
    VaePhase("further whole", 1500, 8, 1.0, 5e-4, 0.002, 5.0, 0.99),
)
"""The same, from weights that know how to draw other images."""


@undrawn()
def train_vae(
    vae: AutoencoderKL,
    pool: Pool,
    phases: Sequence[VaePhase],
    *,
    seed: int,
    folder: Path,
    machine: Machine,
    identity: str,
) -> AutoencoderKL:
    """Train on reconstruction with a small KL term, decoding from noisy latents, as the UNet's will be.

    ``identity``: see :func:`.loop.load_state`.
    """
    vae.to(machine.device)
    for number, phase in enumerate(phases):
        phase_seed = step_seed(seed, -10 - number) % 2**32
        path = folder / f"vae-{phase.name.replace(' ', '-')}.pt"
        _train_phase(vae, pool, phase, phase_seed, path, machine, f"{identity}, {phase}")
    vae.eval()
    _rescale(vae, pool, machine)
    return vae


def _train_phase(
    vae: AutoencoderKL, pool: Pool, phase: VaePhase, seed: int, state_path: Path, machine: Machine, identity: str
) -> None:
    batch = phase.batch * machine.batches
    size = int(pool.images.shape[-1] * phase.crop)

    def loss_of_step(step: int) -> torch.Tensor:
        torch.manual_seed(step_seed(seed, step))
        rng = np.random.default_rng(step_seed(seed, step))
        chosen = torch.from_numpy(rng.integers(0, len(pool.images), batch))  # [B]
        images = _crop(pool.batch(chosen, machine.device), size, rng)  # [B, 3, size, size]
        with machine.precision():
            posterior = vae.encode(images).latent_dist
            latents = posterior.sample()  # [B, 4, h, w]
            spread = latents.detach().std()
            decoded = vae.decode(latents + _NOISE * spread * torch.randn_like(latents)).sample  # [B, 3, size, size]
            error = F.l1_loss(decoded.float(), images) + phase.squared * F.mse_loss(decoded.float(), images)
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
        identity=identity,
    )
    vae.load_state_dict(average.shadow)


@torch.no_grad()
def encode_all(vae: AutoencoderKL, images: torch.Tensor, machine: Machine, chunk: int = 64) -> torch.Tensor:
    """Return the latents of drawn images, unscaled: uint8 [N, 3, H, W] -> float32 [N, 4, H/8, W/8] on the device."""
    parts = tqdm(images.split(chunk), desc="latents", mininterval=5, leave=False)
    return torch.cat([vae.encode(as_input(part, machine.device)).latent_dist.mode() for part in parts])


@torch.no_grad()
def _rescale(vae: AutoencoderKL, pool: Pool, machine: Machine) -> None:
    """Bring the latents to mean 0 and std 1 / SCALING_FACTOR by the two 1x1 convolutions around them, exactly."""
    latents = encode_all(vae, pool.images[:256], machine)  # [256, 4, h, w]
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
