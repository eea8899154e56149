"""Forge: a host of the WebUI's interface whose sampler calls the UNet in an order of its own.

It takes a step's rows apart into chunks, one for each part of the prompt's AND and one unconditional, of all images
each. Which chunks a UNet call has depends on the free memory; ``transformer_options["cond_or_uncond"]`` tells their
kind, and within a step the parts come from the last to the first.
"""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Hashable
from typing import Any

import torch

from lib_gie.checks import check_prompt_draws_all
from lib_gie.errors import ErasureError

CONDITIONAL = 0
"""The mark of a conditional chunk in ``cond_or_uncond``; the unconditional one's is 1."""

_MARKS = "cond_or_uncond"


def is_here() -> bool:
    """Whether this WebUI is Forge or one of its kin. Imports nothing of it."""
    return _exists("modules_forge")


def is_supported() -> bool:
    """Whether it has Forge's own sampling code, which reForge and the first Forge do not have."""
    return _exists("backend.sampling.sampling_function")


@functools.cache
def _exists(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ImportError:  # a folder above it is not there
        return False


# -- a step's rows ------------------------------------------------


def _check_cfg(denoiser: Any, weights: list[float]) -> None:
    """``weights``: of the prompt's parts, as the host adds them up."""
    second = bool(getattr(denoiser.p, "is_hr_pass", False))
    scale = denoiser.p.hr_cfg if second else denoiser.sampler.sampler_extra_args["cond_scale"]
    scale *= getattr(denoiser, "cond_scale_miltiplier", 1.0)
    check_prompt_draws_all(scale, weights, scale)


class Step:
    """One denoiser call: its rows, and which of them its UNet calls have not brought yet."""

    def __init__(self, denoiser: Any, images: int):
        """``images``: the batch's. Raises ErasureError where the negative prompt has a say in the image."""
        batch = denoiser.sampler.sampler_extra_args["cond"].batch
        if len(batch) != images:
            raise ErasureError(
                f"the sampler denoises {images} images with {len(batch)} prompts; their order is unknown, so nothing "
                f"can be erased"
            )
        # the host drops what other images have fewer of, and weighs each part as the last image does
        count = min(len(parts) for parts in batch)
        weights = [batch[-1][number].weight for number in range(count)]
        _check_cfg(denoiser, weights)
        self._images = images
        self._left: list[list[Hashable | None]] = [
            [(image, number) if weight >= 0 else None for image in range(images)]
            for number, weight in enumerate(weights)
        ]
        self.rows: list[Hashable | None] = [row for part in self._left for row in part] + [None] * images

    def rows_of_call(self, kwargs: dict, batch: int) -> list[Hashable | None]:
        """The rows of a UNet call in their order. Raises ErasureError for calls that the step did not announce."""
        marks = (kwargs.get("transformer_options") or {}).get(_MARKS)
        if not marks or len(marks) * self._images != batch:
            raise ErasureError(
                f"the UNet was called with {batch} rows where chunks of {self._images} were expected (marks: {marks}), "
                f"so it is unknown which are conditional; growth inhibitors cannot be used with what made this call"
            )
        rows: list[Hashable | None] = []
        for mark in marks:
            rows += self._next_part() if mark == CONDITIONAL else [None] * self._images
        return rows

    def _next_part(self) -> list[Hashable | None]:
        if not self._left:
            raise ErasureError(
                "the UNet was called with more conditional rows than the step has prompts, so it is unknown what they "
                "are; growth inhibitors cannot be used with what made this call (self-attention guidance and its kin)"
            )
        return self._left.pop()


# -- the model ------------------------------------------------


def prepare_text_encoder(model: Any) -> None:
    """Bring the text encoder where it can run, with LoRAs in it and the clip skip of the settings."""
    clip = getattr(getattr(model, "forge_objects", None), "clip", None)
    if clip is None:
        return
    from backend import memory_management
    from modules import shared

    memory_management.load_model_gpu(clip.patcher)
    model.set_clip_skip(int(shared.opts.CLIP_stop_at_last_layers))


def as_loaded(model: Any) -> None:
    """Take off what the passes before have patched the model with. Does nothing in a WebUI that patches none."""
    if hasattr(model, "forge_objects_original"):
        model.forge_objects = model.forge_objects_original.shallow_copy()


def with_networks(model: Any) -> None:
    """After the extra networks are activated: the model with LoRAs, as the host samples with it."""
    if hasattr(model, "forge_objects_after_applying_lora"):
        model.forge_objects = model.forge_objects_after_applying_lora.shallow_copy()


def bring_unet_back(model: Any, latents: torch.Tensor) -> None:
    """Encoding within the sampling may have moved the UNet away. ``latents`` [B, C, H, W]: what is sampled."""
    if not is_here():
        return
    from backend.sampling.sampling_function import sampling_prepare

    sampling_prepare(model.forge_objects.unet, latents)
