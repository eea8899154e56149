"""What growth inhibitors need of a pipeline's models, checked before anything is made."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import nn

from lib_gie.core.layers import find_cross_attention
from lib_gie.errors import UnsupportedModelError

from .classes import Layout
from .compiled import check_compiled

_ENCODERS = {"sd": ("text_encoder",), "sdxl": ("text_encoder", "text_encoder_2")}
_PROJECTED = ("text_proj", "text_image_proj", "image_proj")


def tokenizer_of(pipe: Any) -> Any:
    """Return the tokenizer that splits concepts: the pipeline's first (SDXL's refiner has the second alone)."""
    return getattr(pipe, "tokenizer", None) or getattr(pipe, "tokenizer_2", None)


def check_model(pipe: Any, layout: Layout) -> None:
    """Raise UnsupportedModelError where a pipeline lacks something or concepts cannot be encoded for its UNet."""
    for part in ("unet", layout.encoder, "scheduler"):
        if getattr(pipe, part, None) is None:
            raise UnsupportedModelError(
                f"{type(pipe).__name__} has no {part}; growth inhibitors work on pipelines of Stable Diffusion "
                f"with a UNet"
            )
    if tokenizer_of(pipe) is None:
        raise UnsupportedModelError(
            f"{type(pipe).__name__} has no tokenizer, so the concept cannot be encoded; load the pipeline with its "
            f"tokenizer, also where prompts are given as prompt_embeds"
        )
    check_compiled(pipe.unet)
    _check_width(pipe, layout)


def _check_width(pipe: Any, layout: Layout) -> None:
    """Raise UnsupportedModelError where the text encoders' states are not what the UNet attends to."""
    names = _ENCODERS[layout.family]
    found = {name: getattr(pipe, name, None) for name in names}
    if all(encoder is None for encoder in found.values()):
        raise UnsupportedModelError(
            f"{type(pipe).__name__} was loaded without {' and '.join(names)}, so the concept cannot be encoded; load "
            f"the pipeline with it, also where prompts are given as prompt_embeds"
        )
    kind = getattr(getattr(pipe.unet, "config", None), "encoder_hid_dim_type", None)
    if kind in _PROJECTED:
        raise UnsupportedModelError(
            f"the UNet projects the prompt's states before it attends to them ({kind}); growth inhibitors need a UNet "
            f"of SD 1.x, SD 2.x or SDXL"
        )
    configs = [getattr(encoder, "config", None) for encoder in found.values() if encoder]
    widths: list[Any] = [getattr(config, "hidden_size", None) for config in configs]
    wanted = getattr(find_cross_attention(pipe.unet)[0].module.to_k, "in_features", None)
    if None in (*widths, wanted) or sum(widths) == wanted:
        return
    missing = [name for name, encoder in found.items() if encoder is None]
    lacks = f"; {' and '.join(missing)} is missing" if missing else ""
    raise UnsupportedModelError(
        f"the text states of {type(pipe).__name__} have width {sum(widths)} and its UNet attends to width {wanted}"
        f"{lacks}, so the concept cannot be encoded; load the pipeline with all of its text encoders"
    )


@contextmanager
def plain_attention(unet: nn.Module, processors: Mapping[str, Any]) -> Iterator[None]:
    """Make perturbed self-attention (PAG) plain within the context: its processors count on whole batches.

    ``processors``: the UNet's, by name, from before PAG put its own in.
    """
    changed = []
    for name, module in unet.named_modules():
        now = getattr(module, "processor", None)
        if type(now).__name__.startswith("PAG"):
            changed.append((module, now))
            module.processor = processors[f"{name}.processor"]
    try:
        yield
    finally:
        for module, now in changed:
            module.processor = now
