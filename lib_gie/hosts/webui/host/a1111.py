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
    notes_readings = True

    def is_loaded(self, model: Any) -> bool:
        """Whatever stands in the model's place is one."""
        return True

    def unsupported_kind(self, model: Model) -> str | None:
        """SD3's layers attend to text and image jointly."""
        return "SD3" if getattr(model, "is_sd3", False) else None

    def text_encoder(self, model: Model) -> Any:
        """SDXL's is a conditioner around two."""
        return getattr(model, "cond_stage_model", None)

    def text_weights(self, model: Model) -> list[nn.Parameter]:
        """The text encoder is a module here."""
        return list(self.text_encoder(model).parameters())

    def vectors_of(self, encoder: Any) -> Any:
        """The model's hijack."""
        return encoder.hijack

    def inversions_of(self, encoder: Any) -> Any | None:
        """The hijack's database."""
        return getattr(encoder.hijack, "embedding_db", None)

    def bring_text_encoder(self, model: Model) -> None:
        """With --medvram hooks on SDXL's conditioner, which is not called here, move its text encoders."""
        conditioner = getattr(model, "conditioner", None)
        for hook in list(getattr(conditioner, "_forward_pre_hooks", {}).values()):
            hook(conditioner, ())

    def around_unet(self, model: Model) -> Any:
        """A wrapper that takes SDXL's conditioning apart."""
        return getattr(model, "model", None)

    def bring_unet_back(self, model: Model, latents: torch.Tensor) -> None:
        """The UNet comes back by itself, whenever it is called."""

    def reload_model(self, p: Processing) -> None:
        """The WebUI knows which checkpoint is chosen."""
        sd_models.reload_model_weights()

    def with_networks(self, model: Model) -> None:
        """LoRAs go into the weights by themselves, whenever a layer is called."""

    def step_rows(self, p: Processing, params: StepParams) -> DenoiserRows:
        """The denoiser puts them in one order for every sampler."""
        rows = DenoiserRows.read(params)
        check_order(p, rows.names)
        return rows
