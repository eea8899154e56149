"""Texts that are read as plain words, in a state that nobody else's requests have a say in.

What is calibrated stays for all images of a checkpoint. Meanwhile anybody may make textual inversions, set options and
override them, so a calibration reads its texts as if there were none of that.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

from modules import shared

from .chosen import HOST
from .contract import Model
from .model import clip_skip, find_unet, text_encoders

_OF_SDXL = ("sdxl_clip_l_skip", "sdxl_crop_top", "sdxl_crop_left")

_USUAL = (
    "sd_lora", "sd_hypernetwork", "token_merging_ratio", "tiling", "sd_noise_schedule", "use_downcasted_alpha_bar",
    "comma_padding_backtrack", "sd_vae_encode_method", *_OF_SDXL,
)  # fmt: skip
"""Settings that a request can override and that change what the UNet predicts: as they are after an installation."""

_PLAIN = {"emphasis": "None", "enable_emphasis": False, "use_old_emphasis_implementation": False}

_this_thread = threading.local()
_one_at_a_time = threading.Lock()  # what two threads change they must put back in the opposite order


def are_plain_words() -> bool:
    """Tell whether this thread reads texts as plain words now, without tags of extra networks in them."""
    return bool(getattr(_this_thread, "reads_plain_words", False))


@contextmanager
def plain_words(model: Model) -> Iterator[None]:
    """Read texts as plain words within the context, in this thread: nothing in them is syntax, or a textual inversion.

    The settings are as they were at its beginning, those of ``_USUAL`` as after an installation. Other threads see
    and set the WebUI's own all the time. One thread at a time is within: a second one waits. Within it already, nothing
    is to be done.
    """
    if are_plain_words():
        yield
        return
    with _one_at_a_time, ExitStack() as stack:
        stack.enter_context(_own_settings())
        stack.enter_context(_without_inversions(model))
        stack.enter_context(_whole_self_attention(model))
        _this_thread.reads_plain_words = True
        try:
            yield
        finally:
            _this_thread.reads_plain_words = False


def _settings() -> dict[str, Any]:
    labels = shared.opts.data_labels
    usual = {name: labels[name].default for name in _USUAL if name in labels}
    return {**shared.opts.data, **usual, **_PLAIN, "CLIP_stop_at_last_layers": clip_skip()}


@contextmanager
def _own_settings() -> Iterator[None]:
    """Have this thread read settings of its own within the context.

    The WebUI's object stays the same, with all that is set meanwhile: only its class is another one.
    """
    kind, reader, own = type(shared.opts), threading.get_ident(), _settings()
    object.__setattr__(shared.opts, "__class__", _reading(kind, reader, own))
    try:
        yield
    finally:
        object.__setattr__(shared.opts, "__class__", kind)


def _reading(kind: Any, reader: int, own: Mapping[str, Any]) -> Any:
    """Return a class like ``kind`` whose objects have the values ``own`` where one thread asks."""

    def get(self: Any, name: str) -> Any:
        if name in own and threading.get_ident() == reader:
            return own[name]
        return kind.__getattribute__(self, name)

    return type(kind.__name__, (kind,), {"__getattribute__": get})


@contextmanager
def _without_inversions(model: Model) -> Iterator[None]:
    """Have this thread find no textual inversion within the context. The databases themselves stay as they are."""
    found = [HOST.inversions_of(encoder) for encoder in text_encoders(model)]
    databases = {id(database): database for database in found if database is not None}
    reader = threading.get_ident()
    before = {key: vars(database).get("find_embedding_at_position") for key, database in databases.items()}
    for database in databases.values():
        _look_away(database, reader)
    try:
        yield
    finally:
        for key, database in databases.items():
            del database.find_embedding_at_position
            if before[key] is not None:
                database.find_embedding_at_position = before[key]


def _look_away(database: Any, reader: int) -> None:
    inner = database.find_embedding_at_position

    def find(tokens: Any, offset: int) -> Any:
        return (None, None) if threading.get_ident() == reader else inner(tokens, offset)

    database.find_embedding_at_position = find


@contextmanager
def _whole_self_attention(model: Model) -> Iterator[None]:
    """Keep HyperTile, which stays as the request before has left it, from dividing images within the context."""
    unet = find_unet(model)
    active = [] if unet is None else hypertile_of(unet)
    for params in active:
        params.enabled = False
    try:
        yield
    finally:
        for params in active:
            params.enabled = True


def has_unusual_sizes() -> bool:
    """Tell whether what only SDXL is told beside the prompt is set otherwise than after an installation."""
    labels = shared.opts.data_labels
    return any(getattr(shared.opts, name, None) != labels[name].default for name in _OF_SDXL if name in labels)


def hypertile_of(unet: Any) -> list[Any]:
    """Return what the WebUI's HyperTile keeps on a UNet's modules, as far as it is switched on there."""
    found = {
        id(params): params for module in unet.modules() if (params := vars(module).get("__webui_hypertile_params"))
    }
    return [params for params in found.values() if getattr(params, "enabled", False)]
