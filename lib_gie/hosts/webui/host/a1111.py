"""AUTOMATIC1111's WebUI. What each member is for is said in ``contract.WebUI``."""

from __future__ import annotations

from typing import Any

import torch
from modules import sd_models
from torch import nn

from .contract import Model, Processing, StepParams
from .denoiser_rows import DenoiserRows
from .other_extensions import check_order


class AUTOMATIC1111:
    """AUTOMATIC1111's WebUI, and forks that sample as it does."""

    refusal: str | None = None
    trains_adapters = True
    calibrates = True
    notes_readings = True

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

    def reload_model(self, p: Processing) -> None:
        """Load the chosen checkpoint, which the WebUI knows."""
        sd_models.reload_model_weights()

    def with_networks(self, model: Model) -> None:
        """Do nothing: LoRAs go into a layer's weights whenever it is called."""

    def step_rows(self, p: Processing, params: StepParams) -> DenoiserRows:
        """Return the rows; the denoiser puts them in one order for every sampler."""
        rows = DenoiserRows.read(params)
        check_order(p, rows.names)
        return rows
