"""Text encoder and UNet of the demo model, trained together on latents of drawn scenes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import nn

from lib_gie.randomness import undrawn

from .loop import OnSaved, load_state, run, save_state, step_seed
from .machine import Machine
from .pool import Pool
from .text import LENGTH, WIDTH, ReducedVocabulary, build_text_encoder
from .vae import SCALING_FACTOR, encode_all
from .world.captions import FILLERS
from .world.scenes import pick

CHANNELS = (64, 128, 128, 128)
HEADS = 8
TRAIN_TIMESTEPS, BETA_START, BETA_END = 1000, 0.00085, 0.012
OFFSET_CHANNEL = WIDTH - 1
"""Text channel that the UNet never looks at. The WebUI's emphasis divides by the mean of all states, which a trained
LayerNorm leaves near zero; the exported text encoder puts a constant into this channel, so that the mean is not."""


def build_demo_unet(size: int = 64) -> UNet2DConditionModel:
    """Return an untrained UNet of SD 1.x's architecture: 16 cross-attention layers, 13 million parameters.

    ``size``: pixels per side of the images.
    """
    return UNet2DConditionModel(
        sample_size=size // 8,
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


class TextToLatents(nn.Module):
    """Text encoder and UNet as one trainable module."""

    def __init__(self, vocabulary: ReducedVocabulary, size: int = 64):
        super().__init__()
        self.vocabulary = vocabulary
        self.text = build_text_encoder(len(vocabulary))
        self.unet = build_demo_unet(size)
        self.register_buffer("channels", (torch.arange(WIDTH) != OFFSET_CHANNEL).float(), persistent=False)

    def encode(self, captions: list[str], length: int, share_clean: float = 0.0) -> torch.Tensor:
        """Return text states, float32 [B, length, width]. A share of the rows gets the empty caption's from EOS on.

        Without that, much of a word's meaning moves into EOS and padding, where no method that works on a concept's
        own tokens can reach it.
        """
        return self.encode_ids(*self.vocabulary.encode(captions, length), share_clean)

    def encode_ids(self, ids: torch.Tensor, ends: torch.Tensor, share_clean: float = 0.0) -> torch.Tensor:
        """Return text states, float32 [B, length, width], of renumbered tokens [B, length] with EOS at ``ends`` [B]."""
        device, eos = self.text.device, len(self.vocabulary) - 1
        nothing = torch.full((1, ids.shape[1]), eos)  # [1, length]
        nothing[0, 0] = eos - 1
        every = torch.cat((ids, nothing)).to(device)  # [B + 1, length]
        states = self.text(input_ids=every).last_hidden_state * self.channels  # [B + 1, length, width]
        states, empty = states[:-1], states[-1:]  # [B, length, width], [1, length, width]
        after = (torch.arange(ids.shape[1]) >= ends[:, None]).to(device)  # [B, length]
        clean = torch.rand(len(ids), 1, device=device) < share_clean  # [B, 1]
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


def _timesteps(count: int, device: torch.device) -> torch.Tensor:
    """Draw timesteps, int64 [count], one in each of as many equal strata: that reduces the variance at no cost."""
    strata = torch.arange(count, device=device) + torch.rand(count, device=device)  # [B]
    return (strata * (TRAIN_TIMESTEPS / count)).long().clamp_max(TRAIN_TIMESTEPS - 1)  # [B], the last may round up


def _mixed(clean: torch.Tensor, noise: torch.Tensor, signal: torch.Tensor) -> torch.Tensor:
    """Return latents [B, 4, h, w] with as much noise as their timesteps have. ``signal``: alphas_cumprod, [B]."""
    return signal.sqrt()[:, None, None, None] * clean + (1 - signal).sqrt()[:, None, None, None] * noise


@dataclass(frozen=True)
class Course:
    """How text encoder and UNet are trained.

    ``rate``: the peak learning rate. ``batch``: images in a step, on a processor. ``share_empty``: of the captions,
    those that are left out. ``share_clean``: see :meth:`TextToLatents.encode`. ``colour_weight``: see ``_noise_loss``.
    """

    steps: int
    rate: float
    batch: int = 32
    decay: float = 0.999
    share_empty: float = 0.1
    share_clean: float = 0.6
    colour_weight: float = 0.15


FROM_NOTHING = Course(12000, 1e-3)
FURTHER = Course(9000, 8e-4)
"""From weights that know another world."""


_EMPTY = 2 / 3  # of the images without a caption, those without objects


class Captions:
    """The tokens of a pool's captions, and the batches that steps are made of."""

    def __init__(self, pool: Pool, vocabulary: ReducedVocabulary):
        texts = [text for said in pool.captions for text in said]
        ids, ends = vocabulary.encode(texts, LENGTH)  # [N * captions, 77], [N * captions]
        self._each, self._eos = len(pool.captions[0]), len(vocabulary) - 1
        self._is_empty = pool.counts == 0  # [N]
        self._ids, self._ends = ids.to(torch.int16), ends.to(torch.int16)
        self._fillers = [vocabulary.renumbered(words) for words in FILLERS]
        (self._comma,) = vocabulary.renumbered(",")

    def draw(
        self, chosen: np.ndarray, rng: np.random.Generator, share_empty: float
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return tokens, int64 [B, 77], and the position of EOS, int64 [B], of one caption for each chosen scene.

        Two of three captions that are left out are of scenes without objects. Where a prompt says nothing of a place,
        or what it says was erased, the model draws what it draws without a caption: that is to be an empty place.
        """
        rows = torch.from_numpy(chosen * self._each + rng.integers(0, self._each, len(chosen)))  # [B]
        ids, ends = self._ids[rows].long(), self._ends[rows].long()  # [B, 77], [B]
        empty = max(float(self._is_empty.mean()), share_empty)
        shares = np.where(self._is_empty[chosen], _EMPTY / empty, (1 - _EMPTY) / (1 - empty)) * share_empty  # [B]
        left_out = torch.from_numpy(rng.random(len(chosen)) < shares)  # [B]
        ids[left_out, 1:] = self._eos
        ends[left_out] = 1
        return ids, ends

    def lengthen(self, ids: torch.Tensor, ends: torch.Tensor, rng: np.random.Generator) -> None:
        """Put words that mean nothing around half of the captions, up to all of the room, in place."""
        for row in np.flatnonzero(rng.random(len(ids)) < 0.5):
            caption = ids[row, 1 : ends[row]].tolist()
            if not caption:
                continue
            words = self._words(int(rng.integers(0, LENGTH - 1 - len(caption))), rng)
            before = int(rng.integers(0, len(words) + 1))
            leading = [token for word in words[:before] for token in (*word, self._comma)]
            trailing = [token for word in words[before:] for token in (self._comma, *word)]
            tokens = [*leading, *caption, *trailing]
            ids[row, 1 : 1 + len(tokens)] = torch.tensor(tokens)
            ends[row] = 1 + len(tokens)

    def _words(self, room: int, rng: np.random.Generator) -> list[list[int]]:
        """Draw words that mean nothing, as many as there is room for, in tokens, with a comma each."""
        words: list[list[int]] = []
        while True:
            word = pick(rng, self._fillers)
            room -= len(word) + 1
            if room < 0:
                return words
            words.append(word)

    def nothing_said(self, count: int, rng: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        """Return tokens and positions of EOS of this many chunks of a long prompt that hold such words alone."""
        ids, ends = torch.full((count, LENGTH), self._eos), torch.empty(count, dtype=torch.long)  # [B, 77], [B]
        ids[:, 0] = self._eos - 1
        for row in range(count):
            tokens = [token for word in self._words(LENGTH - 2, rng) for token in (*word, self._comma)]
            ids[row, 1 : 1 + len(tokens)] = torch.tensor(tokens)
            ends[row] = 1 + len(tokens)
        return ids, ends


def _context(
    model: TextToLatents, captions: Captions, chosen: np.ndarray, step: int, course: Course, rng
) -> torch.Tensor:
    """Return a step's text states, float32 [B, length, width].

    Most steps see as many positions as their longest caption has, which is cheaper. Every fourth step and the last
    tenth of all see 77. Of every sixteen steps, two have long captions, and one of these a second chunk of 77.
    """
    ids, ends = captions.draw(chosen, rng, course.share_empty)  # [B, 77], [B]
    whole = step % 4 == 3 or step >= 0.9 * course.steps
    if step % 16 in (7, 15):
        captions.lengthen(ids, ends, rng)
    if not whole:
        longest = -(-(int(ends.max()) + 1) // 8) * 8
        ids = ids[:, : min(longest, LENGTH)]
    states = model.encode_ids(ids, ends, course.share_clean)  # [B, length, width]
    if step % 16 != 15:
        return states
    other = model.encode_ids(*captions.nothing_said(len(ids), rng), course.share_clean)  # [B, 77, width]
    return torch.cat((other, states) if step % 32 == 15 else (states, other), dim=1)  # [B, 154, width]


@undrawn()
def train_diffusion(
    model: TextToLatents,
    vae: AutoencoderKL,
    pool: Pool,
    course: Course,
    *,
    seed: int,
    folder: Path,
    machine: Machine,
    identity: str,
    on_saved: OnSaved | None = None,
) -> TextToLatents:
    """Train text encoder and UNet, or go on from ``folder``. Return the averaged weights, ready to be exported.

    ``identity``: see :func:`.loop.load_state`. ``on_saved``: see :func:`.loop.run`.
    """
    latents = _latents(vae, pool, machine, folder / "latents.pt", identity)  # [N, 4, h, w]
    captions = Captions(pool, model.vocabulary)
    model.to(machine.device)
    signals = alphas_cumprod().to(machine.device)
    batch = course.batch * machine.batches

    def loss_of_step(step: int) -> torch.Tensor:
        torch.manual_seed(step_seed(seed, step))
        rng = np.random.default_rng(step_seed(seed, step))
        chosen = rng.integers(0, len(latents), batch)
        clean = latents[torch.from_numpy(chosen).to(machine.device)].float()  # [B, 4, h, w]
        timesteps = _timesteps(batch, machine.device)  # [B]
        signal = signals[timesteps]  # [B]
        noise = torch.randn_like(clean)  # [B, 4, h, w]
        noisy = _mixed(clean, noise, signal)  # [B, 4, h, w]
        with machine.precision():
            states = _context(model, captions, chosen, step, course, rng)  # [B, length, width]
            predicted = model.unet(noisy, timesteps, states).sample  # [B, 4, h, w]
        return _noise_loss(predicted.float() - noise, signal, course.colour_weight)

    average = run(
        model,
        loss_of_step,
        steps=course.steps,
        rate=course.rate,
        decay=course.decay,
        state_path=folder / "diffusion.pt",
        label="text and UNet",
        identity=f"{identity}, {course}",
        on_saved=on_saved,
    )
    model.load_state_dict(average.shadow)
    return model.eval()


@torch.no_grad()
def _latents(vae: AutoencoderKL, pool: Pool, machine: Machine, path: Path, identity: str) -> torch.Tensor:
    """Return the pool's scaled latents, float32 [N, 4, h, w], made once and kept at ``path``."""
    state = load_state(path, identity)
    if state is None:
        state = {"identity": identity, "latents": (encode_all(vae, pool.images, machine) * SCALING_FACTOR).cpu()}
        save_state(path, state)
    return state["latents"].to(machine.device)
