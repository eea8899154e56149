"""Takes rows of a UNet call apart: which tensor is the batch, which arguments belong to which row."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch

from .errors import ErasureError

Rows = slice | torch.Tensor
"""Selects rows of a batch; a slice wherever they are neighbours, which costs no copy."""

LAST_TIMESTEP = 999
"""t = T of all SD models: their noise schedules have 1,000 steps."""

LATENT_CHANNELS = 4
_CONTEXT_NAMES = ("context", "encoder_hidden_states")
_LATENTS_NAMES = ("x", "sample")
_TIMESTEP_NAMES = ("timesteps", "timestep")


def select(indices: Sequence[int]) -> Rows:
    """The selector of these row numbers (ascending)."""
    first, last = indices[0], indices[-1]
    if list(indices) == list(range(first, last + 1)):
        return slice(first, last + 1)
    return torch.tensor(indices)


def take_rows(value: Any, rows: Rows, batch: int) -> Any:
    """The rows of everything in ``value`` that has one entry per row; the rest (numbers, flags) as it is.

    Goes through tuples, lists and dicts: conditioning of SDXL, residuals of a ControlNet.
    """
    if isinstance(value, torch.Tensor):
        return value[rows] if value.ndim and value.shape[0] == batch else value
    if isinstance(value, dict):
        return {key: take_rows(item, rows, batch) for key, item in value.items()}
    if isinstance(value, (list, tuple)) and type(value) in (list, tuple):
        return type(value)(take_rows(item, rows, batch) for item in value)
    return value


def rows_within(part: torch.Tensor, whole: torch.Tensor) -> slice | None:
    """Which rows of ``whole`` [B, ...] the view ``part`` [rows, ...] of it is; None where it is no such view."""
    if part is whole:
        return slice(0, len(whole))
    alike = part.shape[1:] == whole.shape[1:] and part.stride() == whole.stride() and part.dtype == whole.dtype
    if not alike or part.untyped_storage().data_ptr() != whole.untyped_storage().data_ptr():
        return None
    first, rest = divmod(part.storage_offset() - whole.storage_offset(), whole.stride(0) or 1)
    if rest or first < 0 or first + len(part) > len(whole):
        return None
    return slice(first, first + len(part))


def map_tensors(value: Any, change: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    """``value`` with every tensor in it changed; goes through what ``take_rows`` goes through."""
    if isinstance(value, torch.Tensor):
        return change(value)
    if isinstance(value, dict):
        return {key: map_tensors(item, change) for key, item in value.items()}
    if isinstance(value, (list, tuple)) and type(value) in (list, tuple):
        return type(value)(map_tensors(item, change) for item in value)
    return value


def all_tensors(value: Any) -> list[torch.Tensor]:
    """Every tensor in it, in order."""
    found: list[torch.Tensor] = []
    map_tensors(value, lambda tensor: found.append(tensor) or tensor)
    return found


def _tensors(value: Any, batch: int) -> Iterator[torch.Tensor]:
    """All that has one entry per row."""
    return (tensor for tensor in all_tensors(value) if tensor.ndim and tensor.shape[0] == batch)


def distinct_rows(args: tuple, kwargs: dict, batch: int) -> tuple[list[int], list[int]]:
    """Rows of a UNet call that differ, and for every row which of them (by position) it equals."""
    tensors = list(_tensors((args, kwargs), batch))
    chosen, equals = [], []
    for row in range(batch):
        alike = (k for k, c in enumerate(chosen) if all(torch.equal(tensor[c], tensor[row]) for tensor in tensors))
        position = next(alike, None)
        if position is None:
            position = len(chosen)
            chosen.append(row)
        equals.append(position)
    return chosen, equals


def latents_of(args: tuple, kwargs: dict) -> torch.Tensor:
    """Return the latents [B, C, H, W] of a UNet call: its first tensor argument of at least three dimensions."""
    for value in (*args, *kwargs.values()):
        if isinstance(value, torch.Tensor) and value.ndim >= 3:
            return value
    raise ErasureError("the UNet was called without latents; its rows cannot be counted")


def batch_size(args: tuple, kwargs: dict) -> int:
    """Return the number of rows of a UNet call."""
    return len(latents_of(args, kwargs))


def replace_context(args: tuple, kwargs: dict, context: torch.Tensor) -> tuple[tuple, dict]:
    """The same UNet call under another context [B, L, D] (third positional argument or by name)."""
    for name in _CONTEXT_NAMES:
        if name in kwargs:
            return args, {**kwargs, name: context}
    if len(args) >= 3 and isinstance(args[2], torch.Tensor):
        return (*args[:2], context, *args[3:]), kwargs
    raise ErasureError("the UNet was called without a context tensor; there is no prompt to take the concept from")


def context_of(args: tuple, kwargs: dict) -> torch.Tensor:
    """The context [B, L, D] of an attention layer's or UNet's call.

    Attention layers take it as second positional argument, UNets as third, both also by name.
    """
    for name in _CONTEXT_NAMES:
        if isinstance(kwargs.get(name), torch.Tensor):
            return kwargs[name]
    for value in args[1:]:
        if isinstance(value, torch.Tensor) and value.ndim == 3:
            return value
    raise ErasureError("a cross-attention layer was called without a context; the model is used in an unknown way")


def timestep_of(args: tuple, kwargs: dict) -> torch.Tensor:
    """t of a UNet call as a tensor: its second positional argument, also by name."""
    found = [kwargs[name] for name in _TIMESTEP_NAMES if name in kwargs] or list(args[1:2])
    if not found:
        raise ErasureError("the UNet was called without timesteps; the model is used in an unknown way")
    return torch.as_tensor(found[0])


def _replace(args: tuple, kwargs: dict, position: int, names: Sequence[str], change) -> tuple[tuple, dict]:
    """The same call with ``change(value)`` for the positional argument, or that of one of these names."""
    for name in names:
        if name in kwargs:
            return args, {**kwargs, name: change(kwargs[name])}
    if len(args) <= position:
        raise ErasureError(f"the UNet was called without {names[0]}; the model is used in an unknown way")
    return (*args[:position], change(args[position]), *args[position + 1 :]), kwargs


def at_noise(args: tuple, kwargs: dict, seed: int) -> tuple[tuple, dict]:
    """The same UNet call at t = T, with the same noise in every row for the latents [B, C, H, W].

    Channels beyond the latents' own (the mask and picture of an inpainting model) stay.
    """

    def noisy(latents: torch.Tensor) -> torch.Tensor:
        shape = (1, LATENT_CHANNELS, *latents.shape[2:])
        noise = torch.randn(shape, generator=torch.Generator().manual_seed(seed))  # [1, 4, H, W]
        noise = noise.to(latents.device, latents.dtype).expand(len(latents), -1, -1, -1)  # [B, 4, H, W]
        return torch.cat([noise, latents[:, LATENT_CHANNELS:]], 1)  # [B, C, H, W]

    def last(timesteps: torch.Tensor | float) -> torch.Tensor | float:
        return torch.full_like(timesteps, LAST_TIMESTEP) if isinstance(timesteps, torch.Tensor) else LAST_TIMESTEP

    args, kwargs = _replace(args, kwargs, 0, _LATENTS_NAMES, noisy)
    return _replace(args, kwargs, 1, _TIMESTEP_NAMES, last)
