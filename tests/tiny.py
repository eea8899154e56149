"""Small random UNets of the real libraries, built in milliseconds."""

from __future__ import annotations

from dataclasses import dataclass

import not_run
import pytest
import torch

from lib_gie.core.concepts import Concept
from lib_gie.core.encoding import EncodedConcept

CONTEXT_WIDTH = 24


@dataclass
class TinyUNet:
    """A UNet, how to call it and its cross-attention modules in module order."""

    module: torch.nn.Module
    library: str

    def __call__(self, latents, timesteps, context):
        if self.library == "diffusers":
            return self.module(latents, timesteps, encoder_hidden_states=context).sample
        return self.module(latents, timesteps, context=context)

    @property
    def cross_attention(self) -> list[torch.nn.Module]:
        return [module for name, module in self.module.named_modules() if name.endswith("attn2")]


_OPENAI_UNET = {
    "in_channels": 4,
    "model_channels": 32,
    "out_channels": 4,
    "num_res_blocks": 1,
    "attention_resolutions": [1, 2],
    "channel_mult": [1, 2],
    "use_spatial_transformer": True,
    "transformer_depth": 1,
    "context_dim": CONTEXT_WIDTH,
    "use_checkpoint": False,
    "legacy": False,
}


def build_ldm(heads: int = 2) -> TinyUNet:
    """SD 1.x's and 2.x's own library."""
    from ldm.modules.diffusionmodules.openaimodel import UNetModel

    return TinyUNet(randomise(UNetModel(image_size=8, num_heads=heads, **_OPENAI_UNET)), "ldm")


def build_diffusers(heads: int = 2) -> TinyUNet:
    diffusers = pytest.importorskip("diffusers", reason=not_run.DIFFUSERS)

    module = diffusers.UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(32, 64),
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        attention_head_dim=heads,
        cross_attention_dim=CONTEXT_WIDTH,
        layers_per_block=1,
    )
    return TinyUNet(randomise(module), "diffusers")


@torch.no_grad()
def randomise(module: torch.nn.Module) -> torch.nn.Module:
    """Give every parameter a value: ldm's UNet starts with zeros at its ends, which would hide any difference."""
    generator = torch.Generator().manual_seed(0)
    for name, value in module.named_parameters():
        if value.ndim > 1:
            fan_in = value[0].numel()
            value.copy_(torch.randn(value.shape, generator=generator) * fan_in**-0.5)
        elif name.endswith("bias"):
            value.copy_(torch.randn(value.shape, generator=generator) * 0.1)
    # sharper attention than random keys give, so that the concept's maps are far from uniform
    for name, value in module.named_parameters():
        if name.endswith("attn2.to_k.weight"):
            value.mul_(4)
    return module.eval().requires_grad_(False)


def build_sgm(heads: int = 2) -> TinyUNet:
    """SDXL's library; not on PyPI, so it is only there where a WebUI's checkout is on the path."""
    library = pytest.importorskip("sgm.modules.diffusionmodules.openaimodel", reason=not_run.SGM, exc_type=ImportError)
    unet = library.UNetModel(num_heads=heads, spatial_transformer_attn_type="softmax", **_OPENAI_UNET)
    return TinyUNet(randomise(unet), "sgm")


BUILDERS = {"ldm": build_ldm, "diffusers": build_diffusers, "sgm": build_sgm}


@dataclass
class Batch:
    """One UNet call: latents [B, 4, 8, 8], timesteps [B], context [B, L, D], and which image each row belongs to."""

    latents: torch.Tensor
    timesteps: torch.Tensor
    context: torch.Tensor
    rows: tuple

    @property
    def arguments(self):
        return self.latents, self.timesteps, self.context


def make_batch(rows=(0, 1, None, None), length: int = 77, seed: int = 1) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    count = len(rows)
    return Batch(
        torch.randn(count, 4, 8, 8, generator=generator),
        torch.full((count,), 500),
        torch.randn(count, length, CONTEXT_WIDTH, generator=generator),
        tuple(rows),
    )


def make_concept(text: str = "knife", tokens: int = 1, weight: float = 1.0, seed: int = 5) -> EncodedConcept:
    generator = torch.Generator().manual_seed(seed)
    states = torch.randn(77, CONTEXT_WIDTH, generator=generator)  # [77, D]
    return EncodedConcept(Concept(text, weight), states, tuple(f"{text}{i}" for i in range(tokens)))


def multiplies_halves() -> bool:
    """Whether float16 matrices can be multiplied here; torch 2.1 does not on a CPU, where the WebUI needs --no-half."""
    half = torch.ones(2, 2, dtype=torch.float16)
    try:
        torch.nn.functional.linear(half, half)
    except RuntimeError:
        return False
    return True
