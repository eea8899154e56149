"""A diffusers pipeline as the image maker of labelling (see ``lib_gie.training.image_maker``)."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch

from lib_gie.assets import DEMO_CHECKPOINT
from lib_gie.core.concepts import Concept
from lib_gie.core.scales.scale_rules import GivenScales
from lib_gie.demo.sampling_settings import FAMILY
from lib_gie.options import ErasureSettings
from lib_gie.training.image_maker import Made

from . import processes
from .erased_pipeline import ErasedPipeline
from .files import checkpoint_digest
from .loading import default_sampling, is_demo, load_pipeline, pipeline_family
from .pipeline_call import call_pipeline
from .predictor import PipelinePredictor


class PipelineImageMaker(PipelinePredictor):
    """Makes images with a StableDiffusionPipeline. ``negative``: one for all. See PipelinePredictor for the others."""

    def __init__(
        self,
        pipe: Any,
        base: str,
        *,
        name: str,
        steps: int,
        cfg: float,
        size: tuple[int, int] | None = None,
        negative: str = "",
        concept_pass: str = "fused",
    ):
        super().__init__(pipe, base, name=name, cfg=cfg, size=size)
        self.steps, self.negative, self.concept_pass = steps, negative, concept_pass
        self.description = (
            f"{name}, {type(pipe.scheduler).__name__}, {steps} steps, CFG {cfg:g}, size {size}, "
            f"negative {negative!r}, {concept_pass}"
        )

    @torch.no_grad()
    def make(self, prompts: Sequence[str], seeds: Sequence[int], concept: str, scales: torch.Tensor) -> Made:
        """Make one image per prompt, seed and scale w (float32 [B])."""
        needed = bool((scales != 0).any())
        settings = ErasureSettings(concept_pass=self.concept_pass)
        eraser = ErasedPipeline(self.pipe, [Concept(concept)], [GivenScales(scales)], settings)
        with eraser if needed else nullcontext():
            latents = self.sample(prompts, seeds)  # [B, 4, h, w]
        return Made(self.decode(latents), latents.float().cpu())

    def sample(self, prompts: Sequence[str], seeds: Sequence[int]) -> torch.Tensor:
        """Sample clean latents [B, 4, h, w]; image k does not depend on the batch it is made in."""
        latents: torch.Tensor = call_pipeline(
            self.pipe, prompts, seeds, steps=self.steps, cfg=self.cfg, size=self.size,
            negative_prompt=[self.negative] * len(prompts), output_type="latent",
        )  # fmt: skip
        return latents

    @torch.no_grad()
    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Decode latents to images float32 [B, 3, H, W], 0 to 1."""
        vae = self.pipe.vae
        decoded: torch.Tensor = vae.decode((latents / vae.config.scaling_factor).to(vae.dtype)).sample  # [B, 3, H, W]
        return (decoded.float() / 2 + 0.5).clamp(0, 1).cpu()


def demo_or_sd_maker(path: Path | None, *, steps: int, cfg: float | None = None, **options: Any) -> PipelineImageMaker:
    """Return the image maker for a model file or folder, or for the demo model (None)."""
    pipe, demo = load_pipeline(path, processes.device()), is_demo(path)
    default_cfg, size = default_sampling(path)
    file = DEMO_CHECKPOINT if path is None else Path(path)
    name = FAMILY if demo else file.stem
    return PipelineImageMaker(
        pipe,
        FAMILY if demo else pipeline_family(pipe),
        name=f"{name} [{checkpoint_digest(file)}]",  # other weights of the same name are another model
        steps=steps,
        cfg=default_cfg if cfg is None else cfg,
        size=size,
        **options,
    )
