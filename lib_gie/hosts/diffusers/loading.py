"""Loads a Stable Diffusion 1.x pipeline from a checkpoint file or a diffusers folder, without any download."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from diffusers import DPMSolverMultistepScheduler, StableDiffusionPipeline
from diffusers.utils import logging as diffusers_logging
from safetensors import safe_open
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer
from transformers.utils import logging as transformers_logging

from lib_gie.assets import DEMO_CHECKPOINT, DEMO_TEXT_ENCODER, SD1_CONFIG
from lib_gie.core.call import LATENT_CHANNELS
from lib_gie.core.layers import FAMILIES
from lib_gie.demo.sampling_settings import CFG, SIZE
from lib_gie.randomness import undrawn

from . import files
from .files import ModelError
from .weights import note_file

_TEXT_PREFIX = "cond_stage_model.transformer."
_VIT_L: dict[str, Any] = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "hidden_act": "quick_gelu",
    "projection_dim": 768,
}


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Silence the libraries' loaders, which warn of choices that are made here on purpose."""
    levels = diffusers_logging.get_verbosity(), transformers_logging.get_verbosity()
    bars = diffusers_logging.is_progress_bar_enabled(), transformers_logging.is_progress_bar_enabled()
    diffusers_logging.set_verbosity_error()
    transformers_logging.set_verbosity_error()
    diffusers_logging.disable_progress_bar()
    transformers_logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        diffusers_logging.set_verbosity(levels[0])
        transformers_logging.set_verbosity(levels[1])
        for logging, shown in zip((diffusers_logging, transformers_logging), bars, strict=True):
            if shown:
                logging.enable_progress_bar()


def _text_encoder(path: Path, dtype: torch.dtype) -> nn.Module:
    """Load the checkpoint's text encoder; its configuration lies beside the checkpoint, else it is CLIP ViT-L/14."""
    folder = path.parent / "text_encoder"
    config = CLIPTextConfig.from_pretrained(folder) if folder.is_dir() else CLIPTextConfig(**_VIT_L)
    model: nn.Module = CLIPTextModel(config)
    model.to(dtype)
    wanted = {key.removeprefix("text_model."): key for key in model.state_dict()}
    with safe_open(path, framework="pt") as file:
        keys = [key for key in file.keys() if key.startswith(_TEXT_PREFIX) and not key.endswith("position_ids")]
        names = {key: key.removeprefix(_TEXT_PREFIX).removeprefix("text_model.") for key in keys}
        state = {wanted[name]: file.get_tensor(key) for key, name in names.items() if name in wanted}
    try:
        missing = model.load_state_dict(state, strict=False).missing_keys
    except RuntimeError as error:
        raise ModelError(
            f"{path.name} has a text encoder of another size than SD 1.x's ({str(error).splitlines()[1].strip()}); "
            f"a checkpoint of another size needs its .yaml and its folder text_encoder beside it, as the demo's has"
        ) from error
    missing = [key for key in missing if not key.endswith("position_ids")]
    if missing:
        raise ModelError(
            f"{path.name} lacks {len(missing)} tensors of SD 1.x's text encoder ({missing[0]}, ...); give an "
            f"SD 1.x checkpoint, since others cannot be loaded from one file"
        )
    return model.eval()


def _from_file(path: Path, dtype: torch.dtype) -> StableDiffusionPipeline:
    files.check_file(path)
    yaml = path.with_suffix(".yaml")
    own, text_encoder = yaml.exists(), _text_encoder(path, dtype)
    try:
        return StableDiffusionPipeline.from_single_file(
            str(path),
            original_config=str(yaml if own else SD1_CONFIG),
            text_encoder=text_encoder,
            tokenizer=CLIPTokenizer.from_pretrained(DEMO_TEXT_ENCODER, local_files_only=True),
            torch_dtype=dtype,
            local_files_only=True,
            safety_checker=None,
            image_size=SIZE if is_demo(path) else 512,
        )
    except ValueError as error:  # tensors of other shapes
        described = (
            f"what {yaml.name} says" if own else f"SD 1.x, and there is no {yaml.name} beside it to say what it is"
        )
        raise ModelError(
            f"{path.name} does not fit {described} ({_short(error)}); give an SD 1.x checkpoint, or one whose .yaml "
            f"lies beside it"
        ) from error


def _short(error: Exception) -> str:
    """Write a library's error in at most 160 letters."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 160 else f"{text[:160]}..."


def is_demo(path: Path | None) -> bool:
    """Tell whether a model path means the demo model."""
    return path is None or path.resolve() == DEMO_CHECKPOINT.resolve()


def pipeline_family(pipe: StableDiffusionPipeline) -> str:
    """Return the model family, as adapters name it. Raises ModelError for others than SD 1.x and 2.x."""
    width = pipe.unet.config.cross_attention_dim
    if FAMILIES.get(width) not in ("sd1", "sd2"):
        raise ModelError(f"the model's text states have width {width}; expected 768 (SD 1.x) or 1024 (SD 2.x)")
    return FAMILIES[width]


def default_sampling(path: Path | None) -> tuple[float, tuple[int, int] | None]:
    """Return the CFG scale and size (pixels; None: the model's own) where nobody asks for others."""
    return (CFG, (SIZE, SIZE)) if is_demo(path) else (7.0, None)


def load_pipeline(path: Path | str | None = None, device: str | torch.device = "cpu") -> StableDiffusionPipeline:
    """Load a pipeline with DPM++ 2M Karras. ``path``: a .safetensors file or diffusers folder; None: the demo model.

    float32 on the CPU, float16 elsewhere. Raises ModelError for what is not there or no SD 1.x or 2.x model.
    """
    path = DEMO_CHECKPOINT if path is None else Path(path)
    dtype = torch.float32 if torch.device(device).type == "cpu" else torch.float16
    try:
        with _quietly(), undrawn():  # modules are made with random weights before they are filled
            pipe = _load(path, dtype)
            pipe.scheduler = DPMSolverMultistepScheduler.from_config(pipe.scheduler.config, use_karras_sigmas=True)
    except (ModelError, MemoryError):
        raise
    except Exception as error:  # the libraries raise many kinds for files that are not as they expect
        raise ModelError(
            f"{path} cannot be loaded ({type(error).__name__}: {_short(error)}); give a .safetensors file or a "
            f"diffusers folder of SD 1.x"
        ) from error
    channels = pipe.unet.config.in_channels
    if channels != LATENT_CHANNELS:
        raise ModelError(
            f"the UNet of {path} takes {channels} channels, as inpainting models and others that are given a picture "
            f"do; give an ordinary SD 1.x model, which takes {LATENT_CHANNELS}"
        )
    pipe.set_progress_bar_config(disable=True)
    pipe = pipe.to(device)
    if path.is_file():
        note_file(pipe, path)
    return pipe


def _load(path: Path, dtype: torch.dtype) -> StableDiffusionPipeline:
    if path.is_dir():
        files.check_folder(path)
        return StableDiffusionPipeline.from_pretrained(
            path, torch_dtype=dtype, local_files_only=True, safety_checker=None
        )
    if path.is_file():
        return _from_file(path, dtype)
    raise ModelError(
        f"there is no model at {path}{', but a device' if path.exists() else ''}; give a .safetensors file or a "
        f"diffusers folder"
    )
