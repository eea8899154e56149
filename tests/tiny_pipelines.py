"""Every pipeline class of diffusers' Stable Diffusion that growth inhibitors work on, with tiny random models."""

from __future__ import annotations

import inspect
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import diffusers
import numpy as np
import torch
from diffusers import (
    AutoencoderKL,
    ControlNetModel,
    ControlNetUnionModel,
    DDIMScheduler,
    DDPMScheduler,
    LCMScheduler,
    T2IAdapter,
    UNet2DConditionModel,
)
from PIL import Image
from tiny import randomise
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from lib_gie.demo.text import load_tokenizer

PIXELS = 64
WIDTH = 24

GUIDED, PLAIN = "np", "p"  # a letter for each group of rows: n: the negative prompt's, p: the prompt's


@dataclass(frozen=True)
class Case:
    """A pipeline class. ``rows``: its groups of rows with guidance, ``plain``: without.

    ``unet``: changes to the UNet's configuration. ``call``: names of what a call needs beside the prompt. ``options``:
    further arguments of a call. ``steps``: what is left of three.
    """

    rows: str = GUIDED
    plain: str = PLAIN
    unet: dict[str, Any] = field(default_factory=dict)
    call: tuple[str, ...] = ()
    options: dict[str, Any] = field(default_factory=dict)
    xl: bool = False
    steps: int = 3


_STRENGTH = {"strength": 0.67}
_PAG, _PAG_PLAIN = "npp", "pp"


def _xl(**changes) -> Case:
    return Case(xl=True, **changes)


def _pag(xl: bool = False, **changes) -> Case:
    return Case(rows=_PAG, plain=_PAG_PLAIN, xl=xl, **changes)


_IMG2IMG = {"call": ("image",), "options": _STRENGTH, "steps": 2}
_INPAINT = {"call": ("image", "mask_image"), "options": {"strength": 1.0}}
_CONTROLLED = {"call": ("image",)}
_CONTROLLED_IMG2IMG = {"call": ("image", "control_image"), "options": _STRENGTH, "steps": 2}
_CONTROLLED_INPAINT = {"call": ("image", "mask_image", "control_image"), "options": {"strength": 1.0}}
_UNION = {"control_mode": [0]}

CASES: dict[str, Case] = {
    "StableDiffusionPipeline": Case(),
    "StableDiffusionImg2ImgPipeline": Case(**_IMG2IMG),
    "StableDiffusionInpaintPipeline": Case(unet={"in_channels": 9}, **_INPAINT),
    "StableDiffusionDepth2ImgPipeline": Case(
        unet={"in_channels": 5}, call=("image", "depth_map"), options=_STRENGTH, steps=2
    ),
    "StableDiffusionUpscalePipeline": Case(
        unet={"in_channels": 7, "num_class_embeds": 1000, "only_cross_attention": (True, False)}, call=("image",)
    ),
    "StableDiffusionLDM3DPipeline": Case(options={"output_type": "np"}),
    "StableDiffusionModelEditingPipeline": Case(),
    "StableDiffusionAdapterPipeline": Case(call=("image",)),
    "StableDiffusionControlNetPipeline": Case(**_CONTROLLED),
    "StableDiffusionControlNetImg2ImgPipeline": Case(**_CONTROLLED_IMG2IMG),
    "StableDiffusionControlNetInpaintPipeline": Case(**_CONTROLLED_INPAINT),
    "StableDiffusionInstructPix2PixPipeline": Case(rows="pnn", unet={"in_channels": 8}, call=("image",)),
    "LatentConsistencyModelPipeline": Case(rows=PLAIN, unet={"time_cond_proj_dim": 16}),
    "LatentConsistencyModelImg2ImgPipeline": Case(
        rows=PLAIN, unet={"time_cond_proj_dim": 16}, **{**_IMG2IMG, "steps": 3}
    ),
    "StableDiffusionPAGPipeline": _pag(),
    "StableDiffusionPAGImg2ImgPipeline": _pag(**_IMG2IMG),
    "StableDiffusionPAGInpaintPipeline": _pag(unet={"in_channels": 9}, **_INPAINT),
    "StableDiffusionControlNetPAGPipeline": _pag(**_CONTROLLED),
    "StableDiffusionControlNetPAGInpaintPipeline": _pag(**_CONTROLLED_INPAINT),
    "StableDiffusionXLPipeline": _xl(),
    "StableDiffusionXLImg2ImgPipeline": _xl(**_IMG2IMG),
    "StableDiffusionXLInpaintPipeline": _xl(unet={"in_channels": 9}, **_INPAINT),
    "StableDiffusionXLInstructPix2PixPipeline": _xl(rows="pnn", unet={"in_channels": 8}, call=("image",)),
    "StableDiffusionXLAdapterPipeline": _xl(call=("image",)),
    "StableDiffusionXLControlNetPipeline": _xl(**_CONTROLLED),
    "StableDiffusionXLControlNetImg2ImgPipeline": _xl(**_CONTROLLED_IMG2IMG),
    "StableDiffusionXLControlNetInpaintPipeline": _xl(**_CONTROLLED_INPAINT),
    "StableDiffusionXLControlNetUnionPipeline": _xl(call=("control_image",), options=_UNION),
    "StableDiffusionXLControlNetUnionImg2ImgPipeline": _xl(
        call=("image", "control_image"), options={**_UNION, **_STRENGTH}, steps=2
    ),
    "StableDiffusionXLControlNetUnionInpaintPipeline": _xl(
        call=("image", "mask_image", "control_image"), options={**_UNION, "strength": 1.0}
    ),
    "StableDiffusionXLPAGPipeline": _pag(xl=True),
    "StableDiffusionXLPAGImg2ImgPipeline": _pag(xl=True, **_IMG2IMG),
    "StableDiffusionXLPAGInpaintPipeline": _pag(xl=True, unet={"in_channels": 9}, **_INPAINT),
    "StableDiffusionXLControlNetPAGPipeline": _pag(xl=True, **_CONTROLLED),
    "StableDiffusionXLControlNetPAGImg2ImgPipeline": _pag(xl=True, **_CONTROLLED_IMG2IMG),
}


def _text_encoder(width: int, kind=CLIPTextModel):
    torch.manual_seed(0)
    config = CLIPTextConfig(
        hidden_size=width, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2, projection_dim=width
    )
    return kind(config).eval()


@cache
def text_encoder():
    """SD's, of width 24."""
    return _text_encoder(WIDTH)


@cache
def half_text_encoder():
    """SDXL's first, of width 12."""
    return _text_encoder(WIDTH // 2)


@cache
def second_text_encoder(width: int = WIDTH // 2):
    """SDXL's second, of width 12; that of its refiner is as wide as its UNet's context."""
    return _text_encoder(width, CLIPTextModelWithProjection)


@cache
def tokenizer():
    """CLIP's."""
    return load_tokenizer()


@cache
def vae(levels: int = 4, channels: int = 3, scaling_factor: float = 0.18215) -> AutoencoderKL:
    """An autoencoder with a factor of 2 for each level but the first; the scaling factor is SD's."""
    torch.manual_seed(0)
    return AutoencoderKL(
        in_channels=channels, out_channels=channels, block_out_channels=(32,) * levels, sample_size=PIXELS,
        force_upcast=False, scaling_factor=scaling_factor,
        down_block_types=("DownEncoderBlock2D",) * levels, up_block_types=("UpDecoderBlock2D",) * levels,
    ).eval()  # fmt: skip


def _vae(name: str) -> AutoencoderKL:
    if "Upscale" in name:
        return vae(3, scaling_factor=0.08333)
    return vae(channels=6 if "LDM3D" in name else 3)


def unet(xl: bool = False, **changes: Any) -> UNet2DConditionModel:
    """A UNet with five cross-attention layers or more, of width 24."""
    torch.manual_seed(0)
    extra = {}
    if xl:
        # text embedding of the second encoder's width, and six (or five) numbers of 8 each
        extra = {
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": 8,
            "projection_class_embeddings_input_dim": changes.pop("embedding", WIDTH // 2 + 6 * 8),
        }
    config = {
        "sample_size": 8,
        "block_out_channels": (32, 64),
        "down_block_types": ("CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        "attention_head_dim": 2,
        "cross_attention_dim": WIDTH,
        "layers_per_block": 1,
        **extra,
        **changes,
    }
    return randomise(UNet2DConditionModel(**config))


def scheduler() -> DDIMScheduler:
    """SD 1.x's noise schedule."""
    return DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False, steps_offset=1
    )


def _controlnet(name: str, model: UNet2DConditionModel):
    union = "Union" in name
    plain = UNet2DConditionModel.from_config({**model.config, "in_channels": 4})
    kind = ControlNetUnionModel if union else ControlNetModel
    config = {key: value for key, value in plain.config.items() if key in inspect.signature(kind.__init__).parameters}
    config |= {"conditioning_embedding_out_channels": (16, 32, 32, 32)}
    if union:
        config |= {"num_trans_channel": 32, "num_trans_head": 2, "num_proj_channel": 32, "num_control_type": 2}
    return randomise(kind(**config))


def _adapter() -> T2IAdapter:
    return randomise(T2IAdapter(channels=[32, 64], num_res_blocks=1, downscale_factor=8, adapter_type="full_adapter"))


def build(name: str, **parts: Any):
    """A pipeline of this class; ``parts`` replace its models."""
    kind, case = getattr(diffusers, name), CASES[name]
    model = parts.pop("unet", None) or unet(case.xl, **case.unet)
    made = {
        "unet": lambda: model,
        "vae": lambda: _vae(name),
        "text_encoder": half_text_encoder if case.xl else text_encoder,
        "text_encoder_2": second_text_encoder,
        "tokenizer": tokenizer,
        "tokenizer_2": tokenizer,
        "scheduler": lambda: LCMScheduler() if "LatentConsistency" in name else scheduler(),
        "low_res_scheduler": DDPMScheduler,
        "controlnet": lambda: _controlnet(name, model),
        "adapter": _adapter,
    }
    settings = {"requires_safety_checker": False, "pag_applied_layers": ["mid"], "add_watermarker": False}
    given = {}
    for part in inspect.signature(kind.__init__).parameters.values():
        if part.name in parts:
            given[part.name] = parts[part.name]
        elif part.name in made:
            given[part.name] = made[part.name]()
        elif part.name in settings:
            given[part.name] = settings[part.name]
        elif part.default is None or part.default is inspect.Parameter.empty:
            given[part.name] = None
    given.pop("self")
    pipe = kind(**given)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def picture(seed: int = 0, size: int = PIXELS) -> Image.Image:
    """Noise in colours."""
    return Image.fromarray(np.random.default_rng(seed).integers(0, 255, (size, size, 3), dtype=np.uint8))


def _given(name: str, kind: str, count: int) -> Any:
    if kind == "mask_image":
        mask = np.zeros((PIXELS, PIXELS), dtype=np.uint8)
        mask[:, PIXELS // 2 :] = 255
        return [Image.fromarray(mask)] * count
    if kind == "depth_map":
        return torch.rand(count, 8, 8, generator=torch.Generator().manual_seed(1))
    if "Union" in name and kind == "control_image":
        return picture(3)
    size = 16 if "Upscale" in name else PIXELS
    return [picture(3 if kind == "control_image" else number, size) for number in range(count)]


def call(pipe, prompts: list[str], *, guided: bool = True, seed: int = 1, steps: int = 3, **options: Any):
    """Latents of one image per prompt."""
    name = next(kind.__name__ for kind in type(pipe).__mro__ if kind.__name__ in CASES)
    case, count = CASES[name], len(prompts)
    given = {kind: _given(name, kind, count) for kind in case.call} | case.options
    given = {"output_type": "latent", **given}
    given |= {"num_inference_steps": steps, "guidance_scale": 4.0 if guided else 1.0}
    accepted = inspect.signature(type(pipe).__call__).parameters
    if "negative_prompt" in accepted:
        given["negative_prompt"] = ["a dog"] * count
    for key in ("height", "width"):
        if key in accepted and "image" not in case.call:
            given[key] = PIXELS
    generators = [torch.Generator().manual_seed(seed + number) for number in range(count)]
    with torch.no_grad():
        result = pipe(prompts, generator=generators, **{**given, **options})
    images = result.images if hasattr(result, "images") else result.rgb
    return torch.as_tensor(np.asarray(images)) if not isinstance(images, torch.Tensor) else images
