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

from lib_gie.errors import UnsupportedModelError

from .files import checkpoint_digest

OF_TENSORS = "u"
"""A digest of tensors begins with this, which no file's digest does."""

_MOST_VALUES = 2**10  # of one tensor
_ON_TOP = (".processor.", "encoder_hid_proj.")  # an IP-Adapter's layers, by parts of their names
_WORDS = "token_embedding.weight"

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
    """Return a digest of all weights of the UNet and the text encoders: their shapes, and some values of each.

    Values are rounded to half precision, as pipelines are often loaded. A textual inversion or an IP-Adapter, which
    come on top of the weights, are left out.
    """
    found = hashlib.sha256()
    for weight in _weights(pipe):
        found.update(str(tuple(weight.shape)).encode())
        found.update(_some(weight.detach()).to("cpu", torch.float16).numpy().tobytes())
    return OF_TENSORS + found.hexdigest()[:16]


def _some(weight: torch.Tensor) -> torch.Tensor:
    """Return values of a tensor at places that its shape alone decides: [values]."""
    step = max(1, weight.numel() // _MOST_VALUES) | 1  # odd: it meets all columns of a matrix
    if weight.is_contiguous():
        return weight.flatten()[::step]
    places = torch.arange(0, weight.numel(), step, device=weight.device)  # [values]
    return weight.take(places)  # flattening would copy all of it, where channels come last


def _weights(pipe: Any) -> Iterator[torch.Tensor]:
    for name, weight in pipe.unet.named_parameters():
        if not any(part in name for part in _ON_TOP):
            yield _loaded(pipe.unet, name, weight)
    for number in ("", "_2"):
        encoder: Any = getattr(pipe, f"text_encoder{number}", None)
        words = getattr(getattr(pipe, f"tokenizer{number}", None), "vocab_size", None)
        for name, weight in () if encoder is None else encoder.named_parameters():
            values = _loaded(encoder, name, weight)
            yield values[:words] if name.endswith(_WORDS) else values  # textual inversions follow the words


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
