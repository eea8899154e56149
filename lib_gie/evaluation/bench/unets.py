"""UNets of the usual sizes for benchmarks, with random weights, which do not change their speed."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from diffusers import UNet2DConditionModel

from lib_gie.randomness import undrawn

_SDXL = {
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "block_out_channels": (320, 640, 1280),
    "transformer_layers_per_block": (1, 2, 10),
    "attention_head_dim": (5, 10, 20),
    "cross_attention_dim": 2048,
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
}


@dataclass(frozen=True)
class Size:
    """A UNet to measure on.

    ``family``: as adapters name it. ``pixels``, ``steps``: image sides that are measured on the CPU, and the steps of
    one generation there. ``gpu_pixels``, ``gpu_steps``: the same for a GPU. ``config``: the configuration of diffusers'
    UNet; None takes the demo model's UNet.
    """

    family: str
    pixels: tuple[int, ...]
    steps: int
    gpu_pixels: int
    gpu_steps: int
    config: dict[str, Any] | None = field(default=None, hash=False)


SIZES = {
    "demo": Size("gie-demo", (64,), 20, 64, 20),
    "sd15": Size("sd1", (256, 512), 4, 512, 20, {"cross_attention_dim": 768}),
    "sdxl": Size("sdxl", (512,), 3, 1024, 10, _SDXL),
}


def build_bench_unet(size: Size, device: torch.device) -> UNet2DConditionModel:
    """Build the UNet: float32 on the CPU, float16 and channels_last elsewhere. Its weights are always the same.

    On the device "meta" it has none, and takes no memory.
    """
    if size.config is None:
        from lib_gie.hosts.diffusers import load_pipeline

        unet = load_pipeline(None, torch.device("cpu") if device.type == "meta" else device).unet
    else:
        with undrawn(), device if device.type == "meta" else nullcontext():
            torch.manual_seed(0)
            unet = UNet2DConditionModel(sample_size=64, **size.config)
    if device.type == "cpu":
        return unet.float().eval()
    return unet.to(device, torch.float16, memory_format=torch.channels_last).eval()
