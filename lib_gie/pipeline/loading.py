"""Loads a Stable Diffusion 1.x pipeline from a checkpoint file or a diffusers folder, without any download."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from pathlib import Path

import torch
from diffusers import DPMSolverMultistepScheduler, StableDiffusionPipeline
from diffusers.utils import logging as diffusers_logging
from safetensors import safe_open
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer
from transformers.utils import logging as transformers_logging

from ..attention import FAMILIES
from ..demo.settings import CFG, SIZE
from ..errors import GieError
from ..randomness import undrawn

MODELS_DIR = Path(__file__).resolve().parents[2] / "models"
DEMO_CHECKPOINT = MODELS_DIR / "demo" / "gie-demo.safetensors"
_TOKENIZER_DIR = MODELS_DIR / "demo" / "text_encoder"  # SD 1.x's tokenizer is the same for all its models
_SD1_YAML = Path(__file__).with_name("sd1.yaml")
_TEXT_PREFIX = "cond_stage_model.transformer."
_VIT_L = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "hidden_act": "quick_gelu",
    "projection_dim": 768,
}


class ModelError(GieError):
    """A model file or folder that cannot be loaded."""


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """The libraries' loaders warn of choices that are made here on purpose."""
    levels = diffusers_logging.get_verbosity(), transformers_logging.get_verbosity()
    bars = diffusers_logging.is_progress_bar_enabled()
    diffusers_logging.set_verbosity_error()
    transformers_logging.set_verbosity_error()
    diffusers_logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        diffusers_logging.set_verbosity(levels[0])
        transformers_logging.set_verbosity(levels[1])
        if bars:
            diffusers_logging.enable_progress_bar()


def _text_encoder(path: Path, dtype: torch.dtype) -> CLIPTextModel:
    """The checkpoint's text encoder; its configuration lies beside the demo checkpoint, else it is CLIP ViT-L/14."""
    folder = path.parent / "text_encoder"
    config = CLIPTextConfig.from_pretrained(folder) if folder.is_dir() else CLIPTextConfig(**_VIT_L)
    model = CLIPTextModel(config).to(dtype)
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
            f"a demo checkpoint needs the folder text_encoder beside it"
        ) from error
    missing = [key for key in missing if not key.endswith("position_ids")]
    if missing:
        raise ModelError(
            f"{path.name} lacks {len(missing)} tensors of SD 1.x's text encoder ({missing[0]}, ...); only "
            f"SD 1.x checkpoints can be loaded from one file"
        )
    return model.eval()


def _from_file(path: Path, dtype: torch.dtype) -> StableDiffusionPipeline:
    if path.suffix != ".safetensors":
        raise ModelError(f"{path.name} is no .safetensors file; other formats can run code and are not opened")
    yaml = path.with_suffix(".yaml")
    return StableDiffusionPipeline.from_single_file(
        str(path),
        original_config=str(yaml if yaml.exists() else _SD1_YAML),
        text_encoder=_text_encoder(path, dtype),
        tokenizer=CLIPTokenizer.from_pretrained(_TOKENIZER_DIR, local_files_only=True),
        torch_dtype=dtype,
        local_files_only=True,
        safety_checker=None,
        image_size=SIZE if is_demo(path) else 512,
    )


def is_demo(path: Path | None) -> bool:
    """Whether a model path means the demo model."""
    return path is None or path.resolve() == DEMO_CHECKPOINT.resolve()


def family_of(pipe: StableDiffusionPipeline) -> str:
    """The model family, as adapters name it. Raises ModelError for others than SD 1.x and 2.x."""
    width = pipe.unet.config.cross_attention_dim
    if FAMILIES.get(width) not in ("sd1", "sd2"):
        raise ModelError(f"the model's text states have width {width}; SD 1.x has 768, SD 2.x 1024")
    return FAMILIES[width]


def default_sampling(path: Path | None) -> tuple[float, tuple[int, int] | None]:
    """CFG scale and size (pixels; None: the model's own) where nobody asks for others."""
    return (CFG, (SIZE, SIZE)) if is_demo(path) else (7.0, None)


def load_pipeline(path: Path | str | None = None, device: str | torch.device = "cpu") -> StableDiffusionPipeline:
    """A pipeline with DPM++ 2M Karras; ``path``: a .safetensors file or a diffusers folder, None for the demo model.

    float32 on the CPU, float16 elsewhere. Raises ModelError for what is not there or no SD 1.x model.
    """
    path = DEMO_CHECKPOINT if path is None else Path(path)
    if not path.exists():
        raise ModelError(f"there is no model at {path}; give a .safetensors file or a diffusers folder")
    dtype = torch.float32 if torch.device(device).type == "cpu" else torch.float16
    with _quietly(), undrawn():  # modules are made with random weights before they are filled
        if path.is_dir():
            pipe = StableDiffusionPipeline.from_pretrained(
                path, torch_dtype=dtype, local_files_only=True, safety_checker=None
            )
        else:
            pipe = _from_file(path, dtype)
        pipe.scheduler = DPMSolverMultistepScheduler.from_config(pipe.scheduler.config, use_karras_sigmas=True)
    pipe.set_progress_bar_config(disable=True)
    return pipe.to(device)
