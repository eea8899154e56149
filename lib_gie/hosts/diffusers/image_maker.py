"""A diffusers pipeline as the image maker of labelling (see ``lib_gie.training.image_maker``)."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from lib_gie.assets import DEMO_CHECKPOINT
from lib_gie.core.call import LAST_TIMESTEP
from lib_gie.core.concepts import Concept
from lib_gie.core.encoding import EncodedConcept
from lib_gie.core.recorder import Reading
from lib_gie.core.scales.scale_rules import GivenScales
from lib_gie.core.session import erasing, read_attention
from lib_gie.training.image_maker import Made

from . import processes
from .files import checkpoint_digest
from .growth_inhibitors import GrowthInhibitors
from .loading import DEMO_BASE, default_sampling, is_demo, load_pipeline, pipeline_family
from .pipeline_call import call_pipeline
from .texts import concept_tokens

_ROWS = 48  # of one UNet call outside of sampling


class PipelineImageMaker:
    """Makes images with a StableDiffusionPipeline.

    ``base``: model family. ``size``: pixels (width, height), None for the model's own. ``negative``: one for all.
    """

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
        self.pipe, self.base, self.steps, self.cfg = pipe, base, steps, cfg
        self.size, self.negative, self.concept_pass = size, negative, concept_pass
        self.description = (
            f"{name}, {type(pipe.scheduler).__name__}, {steps} steps, CFG {cfg:g}, size {size}, "
            f"negative {negative!r}, {concept_pass}"
        )

    @property
    def conditions(self) -> dict[str, float]:
        """What else the images depend on, by the names of adapters' files."""
        return {"clip_skip": 1, "cfg": self.cfg}

    @property
    def latent_size(self) -> tuple[int, int]:
        """Height and width of the latents."""
        factor = self.pipe.vae_scale_factor
        usual = self.pipe.unet.config.sample_size * factor
        width, height = ((pixels or usual) // factor for pixels in self.size or (None, None))
        return height, width

    def tokens(self, concept: str) -> list[str]:
        """Return the concept's own tokens."""
        return concept_tokens(self.pipe, concept)

    @torch.no_grad()
    def make(self, prompts: Sequence[str], seeds: Sequence[int], concept: str, scales: torch.Tensor) -> Made:
        """Make one image per prompt, seed and scale w (float32 [B])."""
        needed = bool((scales != 0).any())
        eraser = GrowthInhibitors(
            self.pipe, [Concept(concept)], adapter=GivenScales(scales), concept_pass=self.concept_pass
        )
        with eraser if needed else nullcontext():
            latents = self.sample(prompts, seeds)  # [B, 4, h, w]
        return Made(self.decode(latents), latents.float().cpu())

    @torch.no_grad()
    def read(self, prompts: Sequence[str], concepts: Sequence[str], reading: Reading) -> list[torch.Tensor]:
        """Return what adapters with this reading would see, for each concept float32 [B, inputs, n]."""
        unet, (height, width) = self.pipe.unet, self.latent_size
        encoded = [self.encoded(text) for text in concepts]
        found = []
        for start in tqdm(range(0, len(prompts), _ROWS), desc="attention", mininterval=5, leave=False):
            states = self.encode(prompts[start : start + _ROWS])  # [R, 77, D]
            latents = torch.zeros(len(states), unet.config.in_channels, height, width).to(states)  # [R, C, h, w]
            timesteps = torch.full((len(states),), LAST_TIMESTEP, device=states.device)  # [R]
            found.append(read_attention(unet, encoded, reading, (latents, timesteps, states)))
        return [torch.cat(parts) for parts in zip(*found, strict=True)]  # each [B, inputs, n]

    def encoded(self, concept: str) -> EncodedConcept:
        """Return a concept as the text encoder sees it."""
        return EncodedConcept(Concept(concept), self.encode([concept])[0], self.tokens(concept))

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

    @torch.no_grad()
    def encode(self, texts: Sequence[str]) -> torch.Tensor:
        """Return text states [B, 77, D]; each different text is encoded once."""
        different = list(dict.fromkeys(texts))
        states: torch.Tensor = self.pipe.encode_prompt(
            different, device=self.pipe._execution_device, num_images_per_prompt=1, do_classifier_free_guidance=False
        )[0]  # [different, 77, D]
        return states[[different.index(text) for text in texts]]  # [B, 77, D]

    def as_in(self, text: str, prompt: str) -> str:
        """Return the text: no prompt changes the model here."""
        return text

    @property
    def alphas_cumprod(self) -> torch.Tensor:
        """The share of signal at every timestep, float32 [timesteps]."""
        alphas: torch.Tensor = self.pipe.scheduler.alphas_cumprod.float().cpu()
        return alphas

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
        """Return the UNet's output for rows that are all conditional, float32 [B, 4, h, w]; see ImageMaker."""
        unet, device = self.pipe.unet, self.pipe._execution_device
        own = None if scales is None else self.encoded(concept)
        found = []
        for start in range(0, len(latents), _ROWS):
            rows = slice(start, start + _ROWS)
            states = self.encode(texts[rows])  # [R, 77, D]
            erased = nullcontext() if own is None or scales is None else erasing(unet, own, scales[rows])
            with erased:
                output = unet(latents[rows].to(device, unet.dtype), timesteps[rows].to(device), states).sample
            found.append(output.float().cpu())  # [R, 4, h, w]
        return torch.cat(found)


def demo_or_sd_maker(path: Path | None, *, steps: int, cfg: float | None = None, **options: Any) -> PipelineImageMaker:
    """Return the image maker for a model file or folder, or for the demo model (None)."""
    pipe, demo = load_pipeline(path, processes.device()), is_demo(path)
    default_cfg, size = default_sampling(path)
    file = DEMO_CHECKPOINT if path is None else Path(path)
    name = DEMO_BASE if demo else file.stem
    return PipelineImageMaker(
        pipe,
        DEMO_BASE if demo else pipeline_family(pipe),
        name=f"{name} [{checkpoint_digest(file)}]",  # other weights of the same name are another model
        steps=steps,
        cfg=default_cfg if cfg is None else cfg,
        size=size,
        **options,
    )
