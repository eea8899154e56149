"""Compares the loaded model with its checkpoint's file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from .contract import Model
from .model import find_unet, is_float8

_PREFIX = "model.diffusion_model."
_LOOKED_AT = ("input_blocks.0.0.weight", "out.2.weight")
"""Weights that few LoRAs change, and that float8 rounds where the WebUI has kept the model in it."""

_ROUNDING = 8e-3  # relative: bfloat16 rounds by half as much, float8 by far more


def differs_from_file(model: Model) -> bool:
    """Tell whether weights of the UNet are others than in the checkpoint's file; False where that cannot be told.

    Where a request has had the weights in float8, the WebUI may go on with what is left of them. Nothing may be kept of
    such a model under the checkpoint's name. One that is in float8 now has a name of its own (``weights_of``).
    """
    unet, path = find_unet(model), _path_of(model)
    if unet is None or path is None:
        return False
    looked_at = [(name, weight) for name, weight in unet.named_parameters() if name in _LOOKED_AT]
    own = {name: weight for name, weight in looked_at if not is_float8(weight)}
    try:
        with safe_open(path, "pt") as file:
            known = set(file.keys())
            return any(_differ(weight, file.get_tensor(_PREFIX + name)) for name, weight in own.items()
                       if _PREFIX + name in known)  # fmt: skip
    except (OSError, SafetensorError):
        return False


def _path_of(model: Any) -> Path | None:
    name = getattr(getattr(model, "sd_checkpoint_info", None), "filename", None)
    path = None if not name else Path(name)
    return path if path is not None and path.suffix == ".safetensors" and path.is_file() else None


def _differ(weight: torch.Tensor, kept: torch.Tensor) -> bool:
    own, expected = weight.detach().float().cpu(), kept.float()
    return own.shape != expected.shape or not torch.allclose(own, expected, rtol=_ROUNDING, atol=1e-6)
