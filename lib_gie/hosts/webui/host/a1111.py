"""AUTOMATIC1111's WebUI. What each member is for is said in ``contract.WebUI``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import torch
from modules import devices, sd_hijack, sd_models, shared
from torch import nn

from lib_gie.hosts.presets import PRESETS

from .contract import Model, Processing, StepParams
from .denoiser_rows import DenoiserRows, guidance
from .other_extensions import check_order


class AUTOMATIC1111:
    """AUTOMATIC1111's WebUI, and forks that sample as it does."""

    refusal: str | None = None
    trains_adapters = True
    calibrates = True
    makes_unerased_later = True
    notes_readings = True
    presets = PRESETS

    def is_loaded(self, model: Any) -> bool:
        """Take whatever stands in the model's place for one."""
        return True

    def unsupported_kind(self, model: Model) -> str | None:
        """Name SD3, whose layers attend to text and image jointly."""
        return "SD3" if getattr(model, "is_sd3", False) else None

    def text_encoder(self, model: Model) -> Any:
        """Return the encoder; SDXL's is a conditioner around two."""
        return getattr(model, "cond_stage_model", None)

    def text_weights(self, model: Model) -> list[nn.Parameter]:
        """Return the weights of the encoder, which is a module here."""
        return list(self.text_encoder(model).parameters())

    def vectors_of(self, encoder: Any) -> Any:
        """Return the model's hijack."""
        return encoder.hijack

    def inversions_of(self, encoder: Any) -> Any | None:
        """Return the hijack's database."""
        return getattr(encoder.hijack, "embedding_db", None)

    def bring_text_encoder(self, model: Model) -> None:
        """Do what --medvram does by hooks on SDXL's conditioner, which is not called for a concept."""
        conditioner = getattr(model, "conditioner", None)
        for hook in list(getattr(conditioner, "_forward_pre_hooks", {}).values()):
            hook(conditioner, ())

    def around_unet(self, model: Model) -> Any:
        """Return the wrapper that takes SDXL's conditioning apart."""
        return getattr(model, "model", None)

    def bring_unet_back(self, model: Model, latents: torch.Tensor) -> None:
        """Do nothing: the UNet comes back whenever it is called."""

    def bring_unet(self, model: Model, latents: torch.Tensor) -> None:
        """Do what --medvram does by hooks on the module around the UNet, which is not called outside a sampling."""
        if getattr(model, "lowvram", False):
            around = self.around_unet(model)
            for hook in list(around._forward_pre_hooks.values()):
                hook(around, ())

    def unet_dtype(self, model: Model) -> torch.dtype:
        """Return the WebUI's choice, which it also makes where weights are float8."""
        dtype: torch.dtype = devices.dtype_unet
        return dtype

    def alphas_cumprod(self, model: Any) -> torch.Tensor:
        """Return the model's as the settings of the noise schedule change them.

        The model itself has those of the last generation, which may have overridden a setting.
        """
        original = getattr(model, "alphas_cumprod_original", model.alphas_cumprod)
        stand_in = SimpleNamespace(alphas_cumprod=original, alphas_cumprod_original=original)
        sd_models.apply_alpha_schedule_override(stand_in, None)
        alphas: torch.Tensor = stand_in.alphas_cumprod
        return alphas

    def predicts_velocity(self, model: Any) -> bool:
        """Return what the checkpoint's configuration says."""
        return bool(model.parameterization == "v")

    def reload_model(self, p: Processing) -> None:
        """Load the chosen checkpoint, which the WebUI knows."""
        sd_models.reload_model_weights()

    def take_patches_off(self, model: Model) -> None:
        """Do nothing: activating extra networks takes the others off."""

    def with_networks(self, model: Model) -> None:
        """Do nothing: LoRAs go into a layer's weights whenever it is called."""

    @contextmanager
    def as_sampled(self, p: Processing, model: Model) -> Iterator[None]:
        """Set tiling, noise schedule and token merging. Only token merging is taken off again."""
        sd_hijack.model_hijack.apply_circular(shared.opts.tiling)
        sd_models.apply_alpha_schedule_override(model, p)
        sd_models.apply_token_merging(model, p.get_token_merging_ratio())
        try:
            yield
        finally:
            sd_models.apply_token_merging(model, 0)

    def as_in_job(self, p: Processing, model: Model) -> None:
        """Put token merging on again; all else is set for each batch."""
        sd_models.apply_token_merging(model, p.get_token_merging_ratio())

    def step_rows(self, p: Processing, params: StepParams) -> DenoiserRows:
        """Return the rows; the denoiser puts them in one order for every sampler."""
        rows = DenoiserRows.read(params)
        check_order(p, rows.names)
        return rows

    def guidance(self, params: StepParams) -> float:
        """Return the largest of all images in the call."""
        return guidance(params.denoiser)
