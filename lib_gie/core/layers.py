"""Finds a UNet's cross-attention layers by their shape, whichever library they come from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from lib_gie.errors import UnsupportedModelError

FAMILIES = {768: "sd1", 1024: "sd2", 2048: "sdxl", 1280: "sdxl-refiner", 128: "gie-demo"}
"""Model families, as adapters name them, by the width of their text states."""

UNKNOWN = "unknown"
_PARTS = frozenset({"to_q", "to_k", "to_v", "to_out"})


@dataclass(frozen=True, eq=False)
class AttentionLayer:
    """One attention module of ldm, sgm or diffusers and its name within the UNet."""

    name: str
    module: nn.Module

    @property
    def heads(self) -> int:
        """h, the number of attention heads."""
        return int(getattr(self.module, "heads"))  # noqa: B009  # torch types attributes of modules as modules

    @property
    def to_q(self) -> nn.Module:
        """W_q."""
        return self.module.get_submodule("to_q")

    @property
    def to_k(self) -> nn.Module:
        """W_k."""
        return self.module.get_submodule("to_k")

    @property
    def to_v(self) -> nn.Module:
        """W_v."""
        return self.module.get_submodule("to_v")

    @property
    def out_projection(self) -> nn.Module:
        """W_o with its bias: the first of ``to_out``; what follows it there is dropout."""
        to_out = self.module.get_submodule("to_out")
        return to_out[0] if isinstance(to_out, (nn.Sequential, nn.ModuleList)) else to_out

    @property
    def is_replaced(self) -> bool:
        """Tell whether another extension has put another forward into the module."""
        return is_replaced(self.module)

    @property
    def output_factor(self) -> float:
        """The number that the module divides its output by. Only diffusers has one, and it is 1 in all SD models."""
        return float(getattr(self.module, "rescale_output_factor", 1.0))


def is_replaced(module: nn.Module) -> bool:
    """Tell whether another extension has put another forward into a module than its class has.

    The library that moves weights between devices does so, too; its forward changes nothing.
    """
    return "forward" in vars(module) and not hasattr(module, "_hf_hook")


def _is_attention(module: nn.Module) -> bool:
    # every module of a UNet is asked, and an attribute that a module lacks is slow to ask for
    return module._modules.keys() >= _PARTS and isinstance(getattr(module, "heads", None), int)


def _width(module: nn.Module, projection: str) -> int | None:
    found = getattr(getattr(module, projection), "in_features", None)
    return found if isinstance(found, int) else None


def _is_cross(name: str, module: nn.Module) -> bool:
    declared = getattr(module, "is_cross_attention", None)
    if isinstance(declared, bool):
        return declared
    key_width, query_width = _width(module, "to_k"), _width(module, "to_q")
    return name.rpartition(".")[2] == "attn2" or (None not in (key_width, query_width) and key_width != query_width)


def _refuse_joint(name: str, module: nn.Module) -> None:
    """Raise UnsupportedModelError for a layer of SD3 or FLUX: it has no separate map of the prompt."""
    if isinstance(getattr(module, "add_q_proj", None), nn.Module):
        raise UnsupportedModelError(
            f"attention layer {name} attends to text and image jointly (SD3, FLUX); growth inhibitors need "
            f"separate cross-attention as in SD 1.x, SD 2.x and SDXL. Use such a model"
        )
    if getattr(module, "norm_q", None) is not None:
        raise UnsupportedModelError(
            f"attention layer {name} normalises its queries; growth inhibitors know no such model. "
            f"Use an SD 1.x, SD 2.x or SDXL model"
        )
    if getattr(module, "norm_cross", None) is not None:
        raise UnsupportedModelError(
            f"attention layer {name} normalises the prompt's states; growth inhibitors know no such model. "
            f"Use an SD 1.x, SD 2.x or SDXL model"
        )


def find_self_attention(unet: nn.Module) -> tuple[AttentionLayer, ...]:
    """Return all attention layers of a UNet in which the image attends to itself, in the order of its modules."""
    found = unet.named_modules()
    return tuple(
        AttentionLayer(name, part) for name, part in found if _is_attention(part) and not _is_cross(name, part)
    )


def find_cross_attention(unet: nn.Module) -> tuple[AttentionLayer, ...]:
    """Return all cross-attention layers of a UNet, in the order of its modules.

    Raises UnsupportedModelError where there are none, or where they are of a kind that cannot be injected into.
    """
    layers = []
    for name, module in unet.named_modules():
        if not _is_attention(module):
            continue
        _refuse_joint(name, module)
        if _is_cross(name, module):
            layers.append(AttentionLayer(name, module))
    if not layers:
        raise UnsupportedModelError(
            f"{type(unet).__name__} has no cross-attention layer with to_q, to_k, to_v, to_out and heads; "
            f"growth inhibitors work on the UNets of SD 1.x, SD 2.x and SDXL"
        )
    return tuple(layers)


def family_of(layers: Sequence[AttentionLayer]) -> str:
    """Return the model family of a UNet's cross-attention layers; UNKNOWN where their width cannot be told.

    A width that is not in FAMILIES names a family by itself ("width-384"), so that an adapter trained on it is never
    taken for one of another model's.
    """
    width = _width(layers[0].module, "to_k")
    return UNKNOWN if width is None else FAMILIES.get(width, f"width-{width}")
