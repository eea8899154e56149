"""Which weights a pipeline has. Calibrations are for these alone."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import nn

from lib_gie.core.layers import find_cross_attention
from lib_gie.errors import UnsupportedModelError

from .files import checkpoint_digest

OF_TENSORS = "u"
"""A digest of tensors begins with this, which no file's digest does."""

_MOST_VALUES = 2**14  # of one tensor
_ENCODERS = ("text_encoder", "text_encoder_2")
_TEXT_PROJECTIONS = ("k_proj", "v_proj")

_files: WeakKeyDictionary[nn.Module, tuple[Path, str]] = WeakKeyDictionary()
"""By UNet: the checkpoint's file that it was loaded from, and the digest of the pipeline's tensors then."""


def note_file(pipe: Any, path: Path) -> None:
    """Note that a pipeline was loaded from a checkpoint's file, and nothing was changed since."""
    _files[pipe.unet] = path, tensors_digest(pipe)


def weights_digest(pipe: Any) -> str:
    """Return what is the same for the same weights of a pipeline, on every device and in every precision.

    A pipeline with the weights of a file that ``load_pipeline`` has loaded has the digest of that file, as the WebUI
    has it; others that of their tensors. A LoRA changes it. Raises UnsupportedModelError where the weights cannot be
    read.
    """
    own = tensors_digest(pipe)
    path, then = _files.get(pipe.unet, (None, ""))
    if path is None or own != then:
        return own
    try:
        stat = path.stat()
        return _file_digest(path, (stat.st_mtime_ns, stat.st_size, stat.st_ino))
    except OSError:  # it is gone by now
        return own


def identities(pipe: Any) -> tuple[str, ...]:
    """Return all digests by which a pipeline's weights may be known: of their file, if there is one, and of tensors."""
    return tuple(dict.fromkeys((weights_digest(pipe), tensors_digest(pipe))))


@functools.lru_cache(maxsize=16)
def _file_digest(path: Path, identity: tuple[int, ...]) -> str:
    """Return a file's digest. ``identity``: makes a file that was replaced read again."""
    return checkpoint_digest(path)


def tensors_digest(pipe: Any) -> str:
    """Return a digest of the layers by which text comes into the images: the UNet's and those of its text encoders.

    Of large tensors it takes some of the values. They are rounded to half precision, as pipelines are often loaded.
    """
    found = hashlib.sha256()
    for module in _projections(pipe):
        for name, weight in module.named_parameters():
            values = _loaded(module, name, weight).detach().flatten()  # [values]
            step = max(1, len(values) // _MOST_VALUES) | 1  # odd: it meets all columns of a matrix
            found.update(values[::step].to("cpu", torch.float16).numpy().tobytes())
    return OF_TENSORS + found.hexdigest()[:16]


def _projections(pipe: Any) -> Iterator[nn.Module]:
    for layer in find_cross_attention(pipe.unet):
        yield from (layer.to_k, layer.to_v)
    for encoder in filter(None, (getattr(pipe, name, None) for name in _ENCODERS)):
        yield from (part for name, part in encoder.named_modules() if name.endswith(_TEXT_PROJECTIONS))


def _loaded(module: nn.Module, name: str, weight: torch.Tensor) -> torch.Tensor:
    """Return a weight's values, also where the library that moves weights between devices keeps them elsewhere."""
    if not weight.is_meta:
        return weight
    owner, _, own = name.rpartition(".")
    elsewhere = getattr(getattr(module.get_submodule(owner), "_hf_hook", None), "weights_map", None)
    if elsewhere is None:
        raise UnsupportedModelError(
            "the pipeline's weights are on no device, so it cannot be told which they are; calibrate before they are "
            "moved away, or take a fixed scale"
        )
    values: torch.Tensor = elsewhere[own]
    return values
