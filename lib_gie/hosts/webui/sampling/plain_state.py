"""Tells whether the model samples in the plain state that calibrations are made in.

Who writes the prompts may bring networks and settings along. What is read of a prompt then says little of its images,
so nothing that an admin enforces may depend on it.
"""

from __future__ import annotations

from typing import Any

import torch

from lib_gie.hosts.webui.host.contract import Processing
from lib_gie.hosts.webui.host.pictures import takes_picture
from lib_gie.hosts.webui.host.plain_words import has_unusual_sizes, hypertile_of

from .loaded_model import active_hypernetworks, active_loras


def why_not_plain(p: Processing, unet: torch.nn.Module) -> str:
    """Say what makes the pass of ``p`` that runs now unlike those that calibrations are made in, "" for nothing."""
    if active_hypernetworks() or active_loras() or _has_networks(p):
        return "the prompt has extra networks"
    if any(map(_is_tiling, unet.modules())):
        return "the image is tiling"
    if hypertile_of(unet) or any(type(module).__name__ == "ToMeBlock" for module in unet.modules()):
        return "self-attention is divided (HyperTile) or merged (token merging)"
    if has_unusual_sizes():
        return "what SDXL is told beside the prompt is unusual (clip skip of CLIP L, crop)"
    if takes_picture(unet) and _has_picture(p):
        return "the inpainting model is given a picture"
    return ""


def _has_networks(p: Any) -> bool:
    second = bool(getattr(p, "is_hr_pass", False))
    return bool(getattr(p, "hr_extra_network_data" if second else "extra_network_data", None))


def _is_tiling(module: torch.nn.Module) -> bool:
    """Tell whether a layer's images have no edges: by the WebUI, or by an extension that replaces its method."""
    return isinstance(module, torch.nn.Conv2d) and (module.padding_mode != "zeros" or "_conv_forward" in vars(module))


def _has_picture(p: Any) -> bool:
    """Tell whether the pass goes on from a picture: img2img, and the second pass of Hires. fix."""
    return not hasattr(p, "enable_hr") or bool(getattr(p, "is_hr_pass", False))
