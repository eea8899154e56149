"""The quality of the demo model: how well it draws, how well the detector sees, and where words keep their meaning."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from lib_gie.core.layers import find_cross_attention
from lib_gie.demo.detector import background_name, detect
from lib_gie.demo.glyphs import OBJECTS, UNWANTED
from lib_gie.demo.sampling_settings import CFG
from lib_gie.demo.scenes import draw, sample_scene
from lib_gie.demo.vae import psnr, to_tensor

from .figures import Share, as_json, table
from .generate import images_of, plain
from .measures import KINDS, jobs_of

_SCENES = 1000
_SCENE_SEED = 77_000_001  # for the detector's scenes; used nowhere else


@dataclass
class Report:
    """All figures of one run."""

    images: dict[str, int]
    shown: dict[str, Share]
    whole: dict[str, Share]
    background: Share
    precision: Share
    recall: Share
    vae_psnr: float
    values: dict[str, dict[str, float]]
    by_object: dict[str, Share] = field(default_factory=dict)

    def as_json(self) -> dict:
        """Return all figures as plain values."""

        def both(share: Share) -> dict:
            value, interval = as_json(share)
            return {"value": value, "ci": interval, "n": share.total}

        return {
            "images": self.images,
            "shown": {kind: both(share) for kind, share in self.shown.items()},
            "all_objects_shown": {kind: both(share) for kind, share in self.whole.items()},
            "background": both(self.background),
            "detector_precision": both(self.precision),
            "detector_recall": both(self.recall),
            "vae_psnr_db": round(self.vae_psnr, 2),
            "by_object": {name: both(share) for name, share in self.by_object.items()},
            "value_norms": self.values,
        }

    def as_text(self) -> str:
        """Return tables for people."""
        rows = [(kind, self.images[kind], self.shown[kind], self.whole[kind]) for kind in self.shown]
        objects = [(name, share) for name, share in self.by_object.items()]
        norms = [(name, *(f"{value:.2f}" for value in norm.values())) for name, norm in self.values.items()]
        return "\n\n".join(
            (
                table(("prompts", "images", "asked-for object shows", "all of the prompt's objects show"), rows),
                f"named background colour right: {self.background}\n"
                f"detector on drawn scenes through the autoencoder: precision {self.precision}, recall {self.recall}\n"
                f"autoencoder: {self.vae_psnr:.1f} dB on the same scenes",
                table(("object", "shows where asked for"), objects),
                table(("concept", "|W_o v| at the word", "at EOS", "at BOS"), norms),
            )
        )


@torch.no_grad()
def _through_vae(pipe: Any, images: torch.Tensor) -> torch.Tensor:
    """Encode and decode a batch [B, 3, H, W] from -1 to 1."""
    chunks = [pipe.vae.decode(pipe.vae.encode(chunk).latent_dist.mode()).sample for chunk in images.split(50)]
    return torch.cat(chunks).clamp(-1, 1)  # [B, 3, H, W]


def detector_figures(pipe: Any, scenes: int = _SCENES) -> tuple[Share, Share, float]:
    """Measure precision, recall and the autoencoder's PSNR on newly drawn scenes that went through the autoencoder."""
    rng = np.random.default_rng(_SCENE_SEED)
    drawn = [sample_scene(rng) for _ in range(scenes)]
    images = to_tensor([draw(scene.objects, scene.background, rng) for scene in drawn])  # [B, 3, H, W]
    decoded = _through_vae(pipe, images)  # [B, 3, H, W]
    precision, recall = Share(), Share()
    for scene, image in zip(drawn, decoded / 2 + 0.5, strict=True):
        found = detect(image)
        for name in found:
            precision.add(name in scene.objects)
        for name in scene.objects:
            recall.add(name in found)
    return precision, recall, psnr(images, decoded)


@torch.no_grad()
def value_norms(pipe: Any, concepts: Sequence[str] = tuple(UNWANTED)) -> dict[str, dict[str, float]]:
    """Return |W_o v| of each bare word at its strongest own token, at EOS and at BOS, averaged over all layers.

    A word whose own tokens are much weaker than EOS cannot be erased by any method that works on the word's tokens.
    """
    layers = find_cross_attention(pipe.unet)
    result = {}
    for concept in concepts:
        ids = pipe.tokenizer(concept, padding="max_length", max_length=77, return_tensors="pt").input_ids  # [1, 77]
        states = pipe.text_encoder(ids)[0]  # [1, 77, D]
        own = len(pipe.tokenizer(concept).input_ids) - 2
        norms = torch.zeros(77)
        for layer in layers:
            values = layer.to_v(states)  # [1, 77, h*d]
            bias = layer.out_projection(torch.zeros_like(values[:, :1]))  # [1, 1, C]
            norms += (layer.out_projection(values) - bias)[0].norm(dim=-1) / len(layers)  # [77]
        result[concept] = {
            "word": round(float(norms[1 : 1 + own].max()), 4),
            "eos": round(float(norms[1 + own]), 4),
            "bos": round(float(norms[0]), 4),
        }
    return result


def measure(pipe: Any, split: str, seeds: int, cfg: float | None = None) -> Report:
    """Make the split's images without erasure and measure everything. ``cfg``: None for the usual one."""
    jobs = jobs_of(split, seeds)
    shown, whole = {kind: Share() for kind in KINDS}, {kind: Share() for kind in KINDS}
    background = Share()
    by_object = {name: Share() for name in OBJECTS}
    for number, image in images_of(plain(pipe, CFG if cfg is None else cfg), jobs, f"{split} images"):
        found, prompt = detect(image), jobs[number].prompt
        for name in prompt.objects:
            shown[prompt.kind].add(name in found)
            by_object[name].add(name in found)
        whole[prompt.kind].add(set(prompt.objects) <= found)
        if prompt.background is not None:
            background.add(background_name(image) == prompt.background)
    counts = {kind: whole[kind].total for kind in KINDS}
    precision, recall, decibel = detector_figures(pipe)
    return Report(counts, shown, whole, background, precision, recall, decibel, value_norms(pipe), by_object)
