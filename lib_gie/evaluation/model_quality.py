"""The quality of the demo model: how well it draws, how well the detector sees, and where words keep their meaning."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from lib_gie.core.layers import find_cross_attention
from lib_gie.demo.sampling_settings import CFG
from lib_gie.demo.vae import psnr, reconstruct, to_tensor
from lib_gie.demo.world.concepts import CONCEPTS
from lib_gie.demo.world.detector import Sight, look
from lib_gie.demo.world.scenes import Scene, draw_scene, sample_scene
from lib_gie.demo.world.splits import KINDS, Prompt
from lib_gie.demo.world.styles import STYLES
from lib_gie.demo.world.things import OBJECTS

from .figures import Share, as_json, table
from .generate import Job, Sampling, images_of, plain
from .measures import jobs_of

NOTHING = "nothing"
"""The kind of prompts whose images are to be empty."""

_SCENES = 200  # of each style
_SCENE_SEED = 77_000_001  # for the detector's scenes; used nowhere else


def is_in_style(sight: Sight, style: str) -> bool:
    """Tell whether an image is in a style: its background is, and so are at least half of its objects."""
    return sight.backdrop.style == style and sight.is_in_one_style


def _plain(share: Share) -> dict[str, Any]:
    value, interval = as_json(share)
    return {"value": value, "ci": interval, "n": share.total}


def _plain_shares(shares: Mapping[str, Share]) -> dict[str, Any]:
    return {name: _plain(share) for name, share in shares.items()}


def _shares(names: Iterable[str]) -> dict[str, Share]:
    return {name: Share() for name in names}


@dataclass
class Drawing:
    """How well the model draws what prompts ask for.

    By kind of prompt: ``shown``: of the objects that are asked for, those that show. ``whole``: of the images, those
    that show all of them. ``kind_style``: of the images, those in the prompt's style. By style: ``style``, the same,
    and ``background``: of the images whose prompt names the background's colour, those that have it. By object:
    ``by_object``: of the images that it is asked for in, those that show it. ``empty``: of the images of prompts for
    nothing, those without any object.
    """

    shown: dict[str, Share] = field(default_factory=lambda: _shares(KINDS))
    whole: dict[str, Share] = field(default_factory=lambda: _shares(KINDS))
    kind_style: dict[str, Share] = field(default_factory=lambda: _shares((*KINDS, NOTHING)))
    style: dict[str, Share] = field(default_factory=lambda: _shares(STYLES))
    background: dict[str, Share] = field(default_factory=lambda: _shares(STYLES))
    by_object: dict[str, Share] = field(default_factory=lambda: _shares(OBJECTS))
    empty: Share = field(default_factory=Share)

    def count(self, prompt: Prompt, sight: Sight) -> None:
        """Count one image."""
        if prompt.kind == NOTHING:
            self.empty.add(not sight.finds)
        else:
            self.whole[prompt.kind].add(sight.objects >= set(prompt.objects))
        for name in prompt.objects:
            self.shown[prompt.kind].add(name in sight.objects)
            self.by_object[name].add(name in sight.objects)
        right = is_in_style(sight, prompt.style)
        self.kind_style[prompt.kind].add(right)
        self.style[prompt.style].add(right)
        if prompt.background is not None:
            self.background[prompt.style].add(sight.backdrop.colour == prompt.background)

    @property
    def any_background(self) -> Share:
        """Return ``background`` of all styles."""
        every = self.background.values()
        return Share(sum(share.hits for share in every), sum(share.total for share in every))

    def as_json(self) -> dict[str, Any]:
        """Return all figures as plain values."""
        return {
            "shown": _plain_shares(self.shown),
            "all_objects_shown": _plain_shares(self.whole),
            "style_of_kind": _plain_shares(self.kind_style),
            "nothing_empty": _plain(self.empty),
            "style": _plain_shares(self.style),
            "background": _plain(self.any_background),
            "background_of_style": _plain_shares(self.background),
            "by_object": _plain_shares(self.by_object),
        }

    def as_text(self) -> str:
        """Return tables for people."""
        kinds: list[tuple[object, ...]] = [
            (kind, self.whole[kind].total, self.shown[kind], self.whole[kind], self.kind_style[kind]) for kind in KINDS
        ]
        kinds.append((NOTHING, self.empty.total, "-", "-", self.kind_style[NOTHING]))
        header = ("prompts", "images", "asked-for object shows", "all of the prompt's objects show", "style right")
        styles = [(style, self.style[style], self.background[style]) for style in STYLES]
        return "\n\n".join(
            (
                table(header, kinds),
                f"no object where nothing is asked for: {self.empty}\n"
                f"named background colour right: {self.any_background}",
                table(("style", "style right", "named background colour right"), styles),
                table(("object", "shows where asked for"), list(self.by_object.items())),
            )
        )


@dataclass
class Seeing:
    """How well the detector sees scenes of one style that went through the autoencoder.

    ``precision``: of the objects that it finds, those that are there. ``recall``: of those that are there, those that
    it finds. ``style``: of the scenes, those in whose style it sees them. ``only_style``: those in which it sees no
    other style on any object. ``decibel``: the peak signal-to-noise ratio of the autoencoder.
    """

    precision: Share = field(default_factory=Share)
    recall: Share = field(default_factory=Share)
    style: Share = field(default_factory=Share)
    only_style: Share = field(default_factory=Share)
    decibel: float = 0.0

    def count(self, scene: Scene, sight: Sight) -> None:
        """Count one scene."""
        for name in sight.objects:
            self.precision.add(name in scene.objects)
        for name in scene.objects:
            self.recall.add(name in sight.objects)
        self.style.add(is_in_style(sight, scene.style))
        self.only_style.add(sight.styles == {scene.style})

    def as_json(self) -> dict[str, Any]:
        """Return all figures as plain values."""
        shares = {name: getattr(self, name) for name in ("precision", "recall", "style", "only_style")}
        return {**_plain_shares(shares), "vae_psnr_db": round(self.decibel, 2)}


@dataclass
class Report:
    """All figures of one run.

    ``seeing``: by style. ``values``: the norms of each concept's values, by place (see ``value_norms``).
    """

    drawing: Drawing
    seeing: dict[str, Seeing]
    values: dict[str, dict[str, float]]

    def as_json(self) -> dict[str, Any]:
        """Return all figures as plain values."""
        return {
            **self.drawing.as_json(),
            "detector": {style: seen.as_json() for style, seen in self.seeing.items()},
            "value_norms": self.values,
        }

    def as_text(self) -> str:
        """Return tables for people."""
        seeing = [
            (style, seen.precision, seen.recall, seen.style, seen.only_style, f"{seen.decibel:.1f} dB")
            for style, seen in self.seeing.items()
        ]
        header = ("drawn scenes", "precision", "recall", "style right", "no other style", "autoencoder")
        norms = [(name, *(f"{value:.2f}" for value in norm.values())) for name, norm in self.values.items()]
        return "\n\n".join(
            (
                self.drawing.as_text(),
                f"detector on drawn scenes through the autoencoder:\n\n{table(header, seeing)}",
                table(("concept", "|W_o v| at the word", "at EOS", "at BOS"), norms),
            )
        )


@torch.no_grad()
def detector_figures(pipe: Any, scenes: int) -> dict[str, Seeing]:
    """Measure the detector and the autoencoder, style by style, on this many newly drawn scenes of each."""
    result = {}
    for number, style in enumerate(STYLES):
        rng = np.random.default_rng([_SCENE_SEED, number])
        drawn = [sample_scene(rng, style) for _ in range(scenes)]
        images = to_tensor([draw_scene(scene, rng) for scene in drawn])  # [B, 3, H, W]
        decoded = reconstruct(pipe.vae, images)  # [B, 3, H, W]
        result[style] = Seeing(decibel=psnr(images, decoded))
        for scene, image in zip(drawn, decoded / 2 + 0.5, strict=True):
            result[style].count(scene, look(image))
    return result


@torch.no_grad()
def value_norms(pipe: Any, concepts: Sequence[str] = CONCEPTS) -> dict[str, dict[str, float]]:
    """Return |W_o v| of each bare concept at its strongest own token, at EOS and at BOS, averaged over all layers.

    A concept whose own tokens are much weaker than EOS cannot be erased by any method that works on its tokens.
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


def drawing_figures(pipe: Any, jobs: Sequence[Job], cfg: float | None = None) -> Drawing:
    """Make these images without erasure and look at them. ``cfg``: None for the usual one."""
    drawing = Drawing()
    for number, image in images_of(plain(pipe, Sampling(cfg=CFG if cfg is None else cfg)), jobs, "images"):
        drawing.count(jobs[number].prompt, look(image))
    return drawing


def measure(pipe: Any, split: str, seeds: int, cfg: float | None = None) -> Report:
    """Make the images of all prompts of a split, with this many of its seeds, and measure everything."""
    jobs = jobs_of(split, seeds, (*KINDS, NOTHING))
    return Report(drawing_figures(pipe, jobs, cfg), detector_figures(pipe, _SCENES), value_norms(pipe))
