"""The pool of drawn scenes and captions that the demo model is trained on.

It is not kept on disk: a seed makes it anew, chunk by chunk, on all of the processor's cores.
"""

from __future__ import annotations

import functools
import hashlib
import json
import multiprocessing
import os
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from tqdm import tqdm

from .world.captions import Shares, sample_caption
from .world.scenes import draw_scene, sample_scene

CHUNK = 256
"""Scenes that are drawn from one state of the random generator.

Captions have a generator of their own, so that images do not change with what is reserved.
"""

SHARES = Shares(partial=0.05, background=0.6)


def as_input(images: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Return drawn images, uint8 [B, 3, H, W], as an autoencoder takes them: float32 from -1 to 1, on a device."""
    return images.to(device).float() / 127.5 - 1  # [B, 3, H, W]


@dataclass(frozen=True)
class Pool:
    """Drawn scenes.

    ``images``: uint8 [N, 3, H, W]. ``captions``: for every scene the same number of captions. ``counts``: how many
    objects each scene has, int64 [N].
    """

    images: torch.Tensor
    captions: list[list[str]]
    counts: np.ndarray

    @functools.cached_property
    def images_digest(self) -> str:
        """Return a digest of all images."""
        return hashlib.sha256(self.images.numpy().data).hexdigest()[:16]

    @functools.cached_property
    def digest(self) -> str:
        """Return a digest of all images and captions."""
        return hashlib.sha256((self.images_digest + json.dumps(self.captions)).encode()).hexdigest()[:16]

    def batch(self, chosen: torch.Tensor, device: torch.device) -> torch.Tensor:
        """Return some images on a device, float32 [B, 3, H, W] from -1 to 1. ``chosen``: int64 [B]."""
        return as_input(self.images[chosen], device)  # [B, 3, H, W]


def _draw_chunk(
    chunk: int, rows: int, seed: int, size: int, captions: int, reserved: frozenset[str]
) -> tuple[np.ndarray, list[list[str]], list[int]]:
    """Return a chunk's images, uint8 [rows, 3, H, W], captions, and numbers of objects."""
    rng, says = np.random.default_rng([seed, chunk]), np.random.default_rng([seed, chunk, 1])
    images, texts, counts = np.empty((rows, 3, size, size), dtype=np.uint8), [], []
    for row in range(rows):
        scene = sample_scene(rng)
        drawn = draw_scene(scene, rng, size)  # [H, W, 3]
        images[row] = np.rint(drawn.clip(0, 1) * 255).astype(np.uint8).transpose(2, 0, 1)
        texts.append([sample_caption(scene, says, SHARES, reserved) for _ in range(captions)])
        counts.append(len(scene.objects))
    return images, texts, counts


def _chunks(draw, count: int, processes: int) -> Iterable[tuple]:
    if processes == 1:
        yield from map(draw, range(count))
        return
    with ProcessPoolExecutor(processes, multiprocessing.get_context("spawn")) as workers:
        yield from workers.map(draw, range(count))


def draw_pool(
    seed: int, count: int, size: int, captions: int = 8, reserved: frozenset[str] = frozenset(), processes: int = 0
) -> Pool:
    """Draw a pool of at least ``count`` scenes, each with this many captions, none of them reserved.

    ``seed``: non-negative. ``size``: pixels per side. ``processes``: 0 for one on each core.
    """
    chunks = -(-count // CHUNK)
    draw = functools.partial(_draw_chunk, rows=CHUNK, seed=seed, size=size, captions=captions, reserved=reserved)
    images, texts, counts = torch.empty(chunks * CHUNK, 3, size, size, dtype=torch.uint8), [], []
    found = _chunks(draw, chunks, processes or len(os.sched_getaffinity(0)))
    for number, (drawn, said, counted) in enumerate(tqdm(found, desc="scenes", total=chunks, mininterval=5)):
        images[number * CHUNK : (number + 1) * CHUNK] = torch.from_numpy(drawn)
        texts += said
        counts += counted
    return Pool(images, texts, np.array(counts))
