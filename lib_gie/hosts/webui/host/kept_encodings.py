"""Encoded concepts, kept for the next image as long as nothing that they depend on has changed."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from modules import shared

from lib_gie.core.concepts import Concept
from lib_gie.core.encoding import EncodedConcept

from .chosen import HOST
from .contract import Model, Processing
from .model import encode_text, inversions_in, through_hypernetworks

_OPTIONS = (
    "CLIP_stop_at_last_layers", "sdxl_clip_l_skip", "emphasis", "fp8_storage", "cache_fp16_weight", "lora_functional",
)  # fmt: skip


def _networks(p: Processing) -> tuple[Any, ...]:
    """Return the extra networks (LoRAs, ...) of the pass that runs now, as the prompts name them.

    They are put into the weights only when those are next used, so the weights alone do not tell of them.
    """
    found = getattr(p, "hr_extra_network_data" if getattr(p, "is_hr_pass", False) else "extra_network_data", None)
    return tuple((kind, tuple(tuple(one.items) for one in used)) for kind, used in sorted((found or {}).items()))


def _weights(model: Model) -> tuple[Any, ...]:
    """Return where the text encoder's weights are and how often they were written to."""
    # torch does not count writes to inference tensors: those are never the same (the WebUI's weights are none)
    return tuple(
        object() if weight.is_inference() else (weight.data_ptr(), weight._version, weight.dtype)
        for weight in HOST.text_weights(model)
    )


def _settings(p: Processing, model: Model) -> tuple[Any, ...]:
    """Return what the encodings depend on beside the texts and their textual inversions."""
    return (
        getattr(model, "sd_checkpoint_info", None),
        tuple(getattr(shared.opts, name, None) for name in _OPTIONS),
        _networks(p),
        _weights(model),
    )


class _Vectors:
    """The vectors of textual inversions, kept alive, and how often each was written to."""

    def __init__(self, tensors: list[torch.Tensor]):
        self._tensors = [(tensor, None if tensor.is_inference() else tensor._version) for tensor in tensors]

    def same_as(self, others: _Vectors) -> bool:
        """Tell whether nothing was exchanged or written to in between. It is false where torch counts no writes."""
        pairs = list(zip(self._tensors, others._tensors, strict=False))
        return len(self._tensors) == len(others._tensors) and all(
            mine is other and version is not None and version == now for (mine, version), (other, now) in pairs
        )


class KeptEncodings:
    """A cache of encoded concepts by text, emptied when the checkpoint, a setting, a network or a weight changes."""

    def __init__(self) -> None:
        self._encoder: Any = None  # kept alive, so that no other one's weights can lie where its own do
        self._settings: tuple[Any, ...] = ()
        self._found: dict[tuple[str, bool], tuple[_Vectors, EncodedConcept]] = {}

    def encode(self, concept: Concept, model: Model, p: Processing) -> EncodedConcept:
        """Return the concept as the model's text encoder sees it, with the hypernetworks that are active now.

        It is encoded again only where checkpoint, clip skip, LoRAs, weights or the concept's inversions have changed.
        """
        settings, encoder = _settings(p, model), HOST.text_encoder(model)
        if self._encoder is not encoder or self._settings != settings:
            self._found.clear()
        vectors = _Vectors([] if concept.literal else inversions_in(concept.text, model))
        key = concept.text, concept.literal
        if key not in self._found or not self._found[key][0].same_as(vectors):
            self._found[key] = vectors, encode_text(concept, model)
            settings = _settings(p, model)  # encoding puts LoRAs into the weights
        self._encoder, self._settings = encoder, settings
        return through_hypernetworks(dataclasses.replace(self._found[key][1], concept=concept))


KEPT = KeptEncodings()
"""The WebUI's one cache: one checkpoint is loaded at a time."""
