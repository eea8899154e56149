"""What the loaded model is and how it reads a concept: the host's model object, seen through one door."""

from __future__ import annotations

import copy
import dataclasses
import os
from collections.abc import Sequence
from typing import Any
from weakref import WeakKeyDictionary

import torch
from modules import devices, sd_models, shared

from lib_gie.core import layers
from lib_gie.core.concepts import MAX_TOKENS, Concept
from lib_gie.core.encoding import EncodedConcept, check_length, check_token_count
from lib_gie.errors import UnsupportedModelError
from lib_gie.json_lines import identity_digest

from .chosen import HOST
from .contract import Model

_ALIKE = 0.7
"""Cosine from which a textual inversion's vector stands for a word: those of different words have far less."""


_families: WeakKeyDictionary[torch.nn.Module, tuple[str, list[int]]] = WeakKeyDictionary()


def loaded_model() -> Any | None:
    """Return the model object, None if none is loaded. Starts loading none."""
    model = sd_models.model_data.sd_model
    return model if HOST.is_loaded(model) else None


def _name(model: Model) -> str:
    info = getattr(model, "sd_checkpoint_info", None)
    return getattr(info, "name_for_extra", None) or type(model).__name__


def text_encoders(model: Model) -> list[Any]:
    """Return the wrappers of the text encoders whose states make up a prompt's: one, or SDXL's two in order."""
    encoder = HOST.text_encoder(model)
    parts = getattr(encoder, "embedders", None)  # SDXL's conditioner, which has embedders of sizes, too
    found = [encoder] if parts is None else parts
    return [part for part in found if hasattr(part, "tokenize") and hasattr(part, "process_tokens")]


def clip_skip() -> Any:
    """Return the clip skip of the settings, None where the host has none. The WebUI takes all below 1 for 1."""
    found = getattr(shared.opts, "CLIP_stop_at_last_layers", None)
    return max(1, found) if isinstance(found, (int, float)) else found


def weights_of(model: Model) -> str:
    """Return a digest of a checkpoint's file: of all of it where the WebUI has read it all (see --no-hashing).

    It is another one where the weights are kept in float8, which a request can have for itself.
    """
    info: Any = getattr(model, "sd_checkpoint_info", None)
    unet, whole = find_unet(model), getattr(info, "sha256", None)
    ending = "-float8" if unet is not None and any(map(is_float8, unet.parameters())) else ""
    if whole:
        return f"{str(whole)[:16]}{ending}"
    path = getattr(info, "filename", None)
    stat = os.stat(path) if path and os.path.isfile(path) else None
    told = (getattr(info, "hash", None), _name(model), stat and (stat.st_size, stat.st_mtime_ns))
    return f"short-{identity_digest(str(told))}{ending}"


def is_float8(weight: torch.Tensor) -> bool:
    """Tell whether a weight is kept in one of torch's types of 8 bits; versions of torch differ in which there are."""
    return weight.is_floating_point() and weight.element_size() == 1


def check_supported(model: Model) -> None:
    """Raise UnsupportedModelError for models whose text or attention layers are of another kind."""
    kind = HOST.unsupported_kind(model)
    if kind is None and not text_encoders(model):
        kind = f"a model with the text encoder {type(HOST.text_encoder(model)).__name__}"
    if kind is not None:
        raise UnsupportedModelError(
            f"{_name(model)} is {kind}; growth inhibitors work on SD 1.x, SD 2.x and SDXL. Load such a checkpoint, or "
            f"switch growth inhibitors off"
        )


def unet_of(model: Model) -> torch.nn.Module:
    """Return the UNet. Raises UnsupportedModelError where the model has none that can be erased from."""
    check_supported(model)
    unet = find_unet(model)
    if unet is None:
        raise UnsupportedModelError(f"{_name(model)} has no UNet; load an SD 1.x, SD 2.x or SDXL checkpoint")
    return unet


def callable_unet(model: Model, latents: torch.Tensor) -> torch.nn.Module:
    """Return the UNet where it can be called with ``latents`` [B, C, H, W] outside a sampling.

    Call it after whatever is encoded for the UNet: that takes it away where there is too little memory for both.
    """
    unet = unet_of(model)
    HOST.bring_unet(model, latents)
    return unet


def find_unet(model: Model) -> torch.nn.Module | None:
    """Return the UNet of any model, None where there is none."""
    found = getattr(HOST.around_unet(model), "diffusion_model", None)
    return found if isinstance(found, torch.nn.Module) else None


def family_and_heads(unet: torch.nn.Module) -> tuple[str, list[int]]:
    """Return the family ("sd1", ..., see ``layers.family_of``) and the heads of each cross-attention layer.

    Each UNet is looked through once. Raises UnsupportedModelError, see ``layers.find_cross_attention``.
    """
    if unet not in _families:
        found = layers.find_cross_attention(unet)
        _families[unet] = layers.family_of(found), [layer.heads for layer in found]
    return _families[unet]


@dataclasses.dataclass(frozen=True)
class _Split:
    """A text's own tokens in one text encoder, numbers and texts, without BOS and EOS.

    ``fixes``: textual inversions by the place of their first vector; each of their vectors is a token.
    """

    ids: list[int]
    tokens: list[str]
    fixes: list[tuple[int, Any]]


def _split(text: str, encoder: Any, database: Any | None) -> _Split:
    """Take a text apart. ``database``: textual inversions to look for, see ``_textual_inversions``."""
    ids = list(encoder.tokenize([text])[0])
    found, position = _Split([], [], []), 0
    while position < len(ids):
        embedding, length = database.find_embedding_at_position(ids, position) if database else (None, 1)
        if embedding is None:
            found.ids.append(ids[position])
            found.tokens.extend(_texts(ids[position : position + 1], encoder))
            position += 1
            continue
        vectors = int(embedding.vectors)
        found.fixes.append((len(found.ids), embedding))
        found.ids.extend([0] * vectors)  # as the WebUI does, which puts the vectors there
        found.tokens.extend(f"{embedding.name}[{number + 1}]" for number in range(vectors))
        position += length
    return found


def _texts(ids: list[int], encoder: Any) -> list[str]:
    """Return what tokens stand for, as the tokenizer writes them."""
    tokenizer = getattr(encoder, "tokenizer", None)
    if tokenizer is None:
        from modules.sd_hijack_open_clip import tokenizer as open_clip

        return [open_clip.decoder[number] for number in ids]
    return list(tokenizer.convert_ids_to_tokens(ids))


def _textual_inversions(encoder: Any) -> Any | None:
    """Return the host's database of textual inversions, None where it is empty."""
    found = HOST.inversions_of(encoder)
    return found if getattr(found, "ids_lookup", None) else None


def inversions_now(model: Model) -> list[Any | None]:
    """Return copies of the databases of textual inversions, by text encoder.

    What is replaced later is still in them.
    """
    found = []
    for encoder in text_encoders(model):
        database = copy.copy(_textual_inversions(encoder))
        if database is not None:
            database.ids_lookup = {first: list(entries) for first, entries in database.ids_lookup.items()}
        found.append(database)
    return found


def inversions_in(text: str, model: Model, databases: Sequence[Any | None] | None = None) -> list[torch.Tensor]:
    """Return the vectors of the textual inversions that a text names, [vectors, D of a text encoder] each.

    ``databases``: those of ``inversions_now``, as they were when the text was encoded; None: as they are.
    """
    encoders = text_encoders(model)
    known = [_textual_inversions(encoder) for encoder in encoders] if databases is None else databases
    pairs = [(encoder, database) for encoder, database in zip(encoders, known, strict=False) if database]
    found = [embedding.vec for encoder, database in pairs for _, embedding in _split(text, encoder, database).fixes]
    return [tensor for vec in found for tensor in (vec.values() if isinstance(vec, dict) else [vec])]


def vectors_like(text: str, concept: str, model: Model, databases: Sequence[Any | None] | None = None) -> int:
    """Return how many vectors of the textual inversions that a text names are nearly those of a concept's words.

    ``databases``: see ``inversions_in``.
    """
    vectors, found = inversions_in(text, model, databases), 0
    for encoder in text_encoders(model) if vectors else ():
        embed = getattr(encoder, "encode_embedding_init_text", None)
        if embed:
            with torch.no_grad(), devices.autocast():
                own = embed(concept, MAX_TOKENS).float()  # [n, D]
            alike = [part for part in vectors if part.ndim == 2 and part.shape[1] == own.shape[1]]
            found = max(found, sum(_number_alike(part.to(own), own) for part in alike))
    return found


def _number_alike(vectors: torch.Tensor, own: torch.Tensor) -> int:
    """Count how many of ``vectors`` [k, D] are like one of ``own`` [n, D]."""
    cosines = torch.nn.functional.cosine_similarity(vectors[:, None], own[None], dim=-1)  # [k, n]
    return int((cosines.amax(1) > _ALIKE).sum())


def split_tokens(text: str, model: Model) -> tuple[list[int], list[str]]:
    """Return a concept's own tokens, numbers and texts, without BOS and EOS; emphasis marks are taken literally.

    Of several text encoders the one with most tokens counts (they differ on accents and emoji at most), so that none
    of the concept's positions is left out.
    """
    check_length(text)
    found = _longest([_split(text, encoder, _textual_inversions(encoder)) for encoder in text_encoders(model)])
    return found.ids, found.tokens


def word_tokens(text: str, model: Model) -> list[int]:
    """Return the numbers of a text's tokens, of any length, as if there were no textual inversions."""
    return _longest([_split(text, encoder, None) for encoder in text_encoders(model)]).ids


def old_emphasis(text: str, model: Model) -> float:
    """Return the largest emphasis in a text as the host's old implementation reads it.

    That knows brackets alone, and escaped ones as well.
    """
    return max(_old_emphasis(list(encoder.tokenize([text])[0]), encoder) for encoder in text_encoders(model))


def _old_emphasis(ids: Sequence[int], encoder: Any) -> float:
    """Read tokens as it does: each with brackets in it is left out and multiplies all that follow."""
    factors, now, most = getattr(encoder, "token_mults", {}), 1.0, 1.0
    for token in ids:
        if token in factors:
            now *= factors[token]
        else:
            most = max(most, now)
    return most


def _longest(split: list[_Split]) -> _Split:
    return max(split, key=lambda found: len(found.ids))


def encode_concept(concept: Concept, model: Model) -> EncodedConcept:
    """Encode a concept alone, by the model's own text encoder with its clip skip, and the active hypernetworks.

    Call it outside the UNet's forward. Raises ConceptError for a concept without tokens or with more than 75.
    """
    return through_hypernetworks(encode_text(concept, model))


def encode_text(concept: Concept, model: Model) -> EncodedConcept:
    """Encode a concept alone, without hypernetworks. Raises as ``encode_concept`` does."""
    check_length(concept.text)
    encoders = text_encoders(model)
    databases = [None if concept.literal else _textual_inversions(encoder) for encoder in encoders]
    split = [_split(concept.text, *pair) for pair in zip(encoders, databases, strict=True)]
    tokens = _longest(split).tokens
    check_token_count(concept.text, len(tokens))
    HOST.bring_text_encoder(model)
    with torch.no_grad(), devices.autocast():
        found = zip(split, encoders, strict=True)
        states = [_states(own, encoder) for own, encoder in found]  # each [77, D of its own]
    return EncodedConcept(concept, torch.cat(states, dim=-1), tokens)


def _states(own: _Split, encoder: Any) -> torch.Tensor:
    """Return the states [77, D] of one text encoder for its own tokens."""
    row = [encoder.id_start, *own.ids, *[encoder.id_end] * (76 - len(own.ids))]  # [77]
    HOST.vectors_of(encoder).fixes = [own.fixes] if own.fixes else None  # else they could be those of the prompt
    states: torch.Tensor = encoder.process_tokens([row], [[1.0] * len(row)])  # [1, 77, D]
    return states[0]


def through_hypernetworks(encoded: EncodedConcept) -> EncodedConcept:
    """Add what the WebUI makes keys and values of, where hypernetworks are active."""
    if not shared.loaded_hypernetworks:
        return encoded
    from modules.hypernetworks.hypernetwork import apply_hypernetworks

    with torch.no_grad(), devices.autocast():
        keys, values = apply_hypernetworks(shared.loaded_hypernetworks, encoded.states[None])  # [1, 77, D] each
    return dataclasses.replace(encoded, key_states=keys[0], value_states=values[0])
