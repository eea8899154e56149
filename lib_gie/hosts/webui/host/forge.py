"""Forge, a program of the WebUI's interface with model objects and a sampler of its own.

What each member is for is said in ``contract.WebUI``.
"""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from lib_gie.checks import check_prompt_draws_all
from lib_gie.errors import ErasureError
from lib_gie.hosts.marked_rows import MarkedRows
from lib_gie.hosts.presets import PRESETS

from .contract import Denoiser, Model, Processing, StepParams
from .kinds import FORGE_OR_RELATIVE, FORGES_SAMPLING

_UNKNOWN = (
    "Growth Inhibitors are not offered here: this WebUI is a relative of Forge (it has modules_forge, but not Forge's "
    "backend/sampling), whose sampling they do not know, so nothing is erased; see docs/COMPATIBILITY.md, Forge"
)


def is_here() -> bool:
    """Tell whether this WebUI is Forge or another with ``modules_forge``. Imports nothing of it."""
    return _exists(FORGE_OR_RELATIVE)


@functools.cache
def _exists(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ImportError:  # a folder above it is not there
        return False


class Forge:
    """Forge; ``refusal`` says so where it is reForge, the first Forge or another whose sampling code differs."""

    calibrates = True
    trains_adapters = False  # training calls the UNet where Forge may not have it
    makes_unerased_later = False  # its gallery keeps files in another form
    notes_readings = False
    presets = PRESETS

    @property
    def refusal(self) -> str | None:
        """Refuse all whose sampling code is not Forge's own."""
        return None if _exists(FORGES_SAMPLING) else _UNKNOWN

    def is_loaded(self, model: Any) -> bool:
        """Tell a model from the dummy that stands in its place until one is loaded."""
        return hasattr(model, "forge_objects")

    def unsupported_kind(self, model: Model) -> str | None:
        """Name SD3 as elsewhere, and SDXL, whose text encoders are in another place here."""
        if getattr(model, "is_sdxl", False):
            return "SDXL, which is not supported on Forge"
        return "SD3" if getattr(model, "is_sd3", False) else None

    def text_encoder(self, model: Model) -> Any:
        """Return the engine around the text encoder."""
        return getattr(model, "text_processing_engine", None) or getattr(model, "cond_stage_model", None)

    def text_weights(self, model: Model) -> list[nn.Parameter]:
        """Return the weights of the module within the engine, which is none itself."""
        encoder = self.text_encoder(model)
        return list((encoder if isinstance(encoder, nn.Module) else encoder.text_encoder).parameters())

    def vectors_of(self, encoder: Any) -> Any:
        """Return the engine's database, which has both."""
        return encoder.embeddings

    def inversions_of(self, encoder: Any) -> Any | None:
        """Return the engine's database."""
        return encoder.embeddings

    def bring_text_encoder(self, model: Any) -> None:
        """Bring the text encoder with its LoRAs in it, and set the clip skip of the settings."""
        clip = getattr(getattr(model, "forge_objects", None), "clip", None)
        if clip is None:
            return
        from backend import memory_management
        from modules import shared

        memory_management.load_model_gpu(clip.patcher)
        model.set_clip_skip(int(shared.opts.CLIP_stop_at_last_layers))

    def around_unet(self, model: Model) -> Any:
        """Return what the UNet's patcher is around."""
        patcher = getattr(getattr(model, "forge_objects", None), "unet", None)
        return getattr(patcher or model, "model", None)

    def bring_unet_back(self, model: Any, latents: torch.Tensor) -> None:
        """Have Forge prepare its UNet, which may have been moved away for the text encoder."""
        self.bring_unet(model, latents)

    def bring_unet(self, model: Any, latents: torch.Tensor) -> None:
        """Have Forge prepare its UNet, as it does for a sampling: that also puts LoRAs into its weights or out."""
        from backend.sampling.sampling_function import sampling_prepare

        sampling_prepare(model.forge_objects.unet, latents)

    def unet_dtype(self, model: Model) -> torch.dtype:
        """Return the type that Forge casts what it calls the UNet with to."""
        dtype: torch.dtype = self.around_unet(model).computation_dtype
        return dtype

    def alphas_cumprod(self, model: Model) -> torch.Tensor:
        """Return those of the schedule that Forge samples with, which ends in pure noise for some checkpoints."""
        from backend.modules.k_prediction import rescale_zero_terminal_snr_sigmas
        from modules import shared

        sigmas = self.around_unet(model).predictor.sigmas  # [timesteps]
        marked = getattr(getattr(model, "model_config", None), "ztsnr", False)
        if marked or getattr(shared.opts, "sd_noise_schedule", None) == "Zero Terminal SNR":
            sigmas = rescale_zero_terminal_snr_sigmas(sigmas)
        alphas: torch.Tensor = 1 / (sigmas**2 + 1)
        return alphas

    def predicts_velocity(self, model: Model) -> bool:
        """Return what Forge has found of the checkpoint."""
        return bool(self.around_unet(model).predictor.prediction_type == "v_prediction")

    def reload_model(self, p: Any) -> None:
        """Load the checkpoint, and take off what the passes before have patched the model with."""
        from modules import sd_models

        sd_models.forge_model_reload()
        self.take_patches_off(p.sd_model)

    def take_patches_off(self, model: Any) -> None:
        """Take the model as it was loaded, of which Forge keeps a copy."""
        if hasattr(model, "forge_objects_original"):
            model.forge_objects = model.forge_objects_original.shallow_copy()

    def with_networks(self, model: Any) -> None:
        """Take the model with the patches of its LoRAs, of which Forge keeps a copy."""
        if hasattr(model, "forge_objects_after_applying_lora"):
            model.forge_objects = model.forge_objects_after_applying_lora.shallow_copy()

    @contextmanager
    def as_sampled(self, p: Processing, model: Any) -> Iterator[None]:
        """Put token merging on, which is a patch; the next batch takes all patches off."""
        from modules import sd_models

        sd_models.apply_token_merging(model, p.get_token_merging_ratio())
        yield

    def as_in_job(self, p: Processing, model: Any) -> None:
        """Do nothing: Forge begins each batch with the model as it was loaded."""

    def step_rows(self, p: Processing, params: StepParams) -> MarkedRows:
        """Return rows in marked chunks: which of them a UNet call has depends on the free memory."""
        return step_rows(params.denoiser, params.x.shape[0])

    def guidance(self, params: StepParams) -> float:
        """Return the one of all images: the host weighs each part as the last image does."""
        weights = [part.weight for part in params.denoiser.sampler.sampler_extra_args["cond"].batch[-1]]
        return float(_cfg_scale(params.denoiser) * sum(weight for weight in weights if weight > 0))


def step_rows(denoiser: Denoiser, images: int) -> MarkedRows:
    """Return the rows of one denoiser call; ``images``: the batch's.

    Raises ErasureError where the negative prompt has a say in the image.
    """
    batch = denoiser.sampler.sampler_extra_args["cond"].batch
    if len(batch) != images:
        raise ErasureError(
            f"the sampler denoises {images} images with {len(batch)} prompts, so it is unknown which belong together. "
            f"Another extension adds images or prompts: switch it off"
        )
    # the host drops what other images have fewer of, and weighs each part as the last image does
    count = min(len(parts) for parts in batch)
    weights = [batch[-1][number].weight for number in range(count)]
    _check_cfg(denoiser, weights)
    return MarkedRows(
        [[(image, number) if weight >= 0 else None for image in range(images)] for number, weight in enumerate(weights)]
    )


def _check_cfg(denoiser: Any, weights: list[float]) -> None:
    """Raise ErasureError where the negative prompt draws. ``weights``: those by which the host adds the parts up."""
    scale = _cfg_scale(denoiser)
    check_prompt_draws_all(scale, weights, scale)


def _cfg_scale(denoiser: Any) -> float:
    """Return what the sampler multiplies the prompt by."""
    second = bool(getattr(denoiser.p, "is_hr_pass", False))
    scale = denoiser.p.hr_cfg if second else denoiser.sampler.sampler_extra_args["cond_scale"]
    return float(scale * getattr(denoiser, "cond_scale_miltiplier", 1.0))
