"""One UNet call: its arguments by what they are, and the rows of its batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from lib_gie.errors import ErasureError

Rows = slice | torch.Tensor
"""Selects rows of a batch; a slice wherever they are neighbours, which costs no copy."""

Args = tuple[Any, ...]
Kwargs = dict[str, Any]
"""What a module is called with, by position and by name."""

Size = tuple[int, ...]
"""Height and width of the latents."""

LAST_TIMESTEP = 999
"""t = T of all SD models: their noise schedules have 1,000 steps."""

LATENT_CHANNELS = 4
_CONTEXT_NAMES = ("context", "encoder_hidden_states")
_LATENTS_NAMES = ("x", "sample")
_TIMESTEP_NAMES = ("timesteps", "timestep")
_SWITCH_OFF = "Another extension or program calls the model in a way of its own: switch it off"


@dataclass(frozen=True, eq=False)
class UNetCall:
    """The arguments that a host calls a UNet with: latents [B, C, H, W], timesteps, a context [B, L, D], and others.

    ``args``, ``kwargs``: as the host gives them. What is made from a call is another call with new tuples and dicts.
    """

    args: Args
    kwargs: Kwargs

    @property
    def latents(self) -> torch.Tensor:
        """The latents [B, C, H, W]: the first argument that is a tensor of images. Raises ErasureError without any."""
        for value in (*self.args, *self.kwargs.values()):
            if isinstance(value, torch.Tensor) and value.ndim >= 3:
                return value
        raise ErasureError(f"the UNet was called without latents, so its rows cannot be counted. {_SWITCH_OFF}")

    @property
    def batch(self) -> int:
        """The number of rows."""
        return len(self.latents)

    @property
    def size(self) -> Size:
        """Height and width of the latents."""
        return tuple(self.latents.shape[2:])

    @property
    def context(self) -> torch.Tensor:
        """The context [B, L, D], the third positional argument or by name. Raises ErasureError without one."""
        return context_in(self.args[1:], self.kwargs)

    @property
    def timestep(self) -> torch.Tensor:
        """The timesteps: the second positional argument or by name. Raises ErasureError without any."""
        found = [self.kwargs[name] for name in _TIMESTEP_NAMES if name in self.kwargs] or list(self.args[1:2])
        if not found:
            raise ErasureError(f"the UNet was called without timesteps. {_SWITCH_OFF}")
        return torch.as_tensor(found[0])

    @property
    def has_pictures(self) -> bool:
        """Tell whether there is more in the image's size than the latents, such as a ControlNet's residuals."""
        return sum(tensor.ndim >= 4 for tensor in self.tensors()) > 1

    def tensors(self) -> list[torch.Tensor]:
        """Return every tensor among the arguments, in order."""
        found: list[torch.Tensor] = []

        def keep(tensor: torch.Tensor) -> torch.Tensor:
            found.append(tensor)
            return tensor

        self._map(keep)
        return found

    def _map(self, change: Callable[[torch.Tensor], torch.Tensor]) -> UNetCall:
        return UNetCall(_map_tensors(self.args, change), _map_tensors(self.kwargs, change))

    def rows(self, chosen: Rows) -> UNetCall:
        """Return the call of these rows alone."""
        batch = self.batch
        return self._map(lambda tensor: tensor[chosen] if tensor.ndim and tensor.shape[0] == batch else tensor)

    def copied(self) -> UNetCall:
        """Return the call with copies of its tensors: a view keeps other rows, and samplers may write into theirs."""
        return self._map(lambda tensor: tensor.detach().clone())

    def same_as(self, other: UNetCall) -> bool:
        """Tell whether all tensors of both calls are equal."""
        mine, its = self.tensors(), other.tensors()
        return len(mine) == len(its) and all(torch.equal(a, b) for a, b in zip(mine, its, strict=True))

    def distinct_rows(self) -> tuple[list[int], list[int]]:
        """Return the numbers of the rows that differ, and for every row which of these (by position) it equals."""
        batch = self.batch
        tensors = [tensor for tensor in self.tensors() if tensor.ndim and tensor.shape[0] == batch]
        chosen: list[int] = []
        equals: list[int] = []
        for row in range(batch):
            alike = (k for k, c in enumerate(chosen) if all(torch.equal(tensor[c], tensor[row]) for tensor in tensors))
            position = next(alike, None)
            if position is None:
                position = len(chosen)
                chosen.append(row)
            equals.append(position)
        return chosen, equals

    def with_context(self, context: torch.Tensor) -> UNetCall:
        """Return the call under another context [B, L, D]. Raises ErasureError where it has none."""
        return self._with(2, _CONTEXT_NAMES, lambda given: context)

    def with_latents(self, latents: torch.Tensor) -> UNetCall:
        """Return the call with other latents [B, C, H, W]. Raises ErasureError where it has none."""
        return self._with(0, _LATENTS_NAMES, lambda given: latents)

    def at_noise(self, seed: int, size: tuple[int, int] | None = None, timestep: int = LAST_TIMESTEP) -> UNetCall:
        """Return the call at a timestep, with the same noise in every row in place of the latents [B, C, H, W].

        ``size``: the noise's height and width, None for those of the latents. Channels beyond the latents' own (the
        mask and picture of an inpainting model) stay, in that size.
        """

        def noisy(latents: torch.Tensor) -> torch.Tensor:
            height, width = size or latents.shape[2:]
            shape = (1, LATENT_CHANNELS, height, width)
            noise = noise_of(seed, shape).to(latents.device, latents.dtype)  # [1, 4, h, w]
            noise = noise.expand(len(latents), -1, -1, -1)  # [B, 4, h, w]
            more = latents[:, LATENT_CHANNELS:]  # [B, C - 4, H, W]
            if more.shape[1] and tuple(more.shape[2:]) != (height, width):
                more = F.interpolate(more.float(), (height, width), mode="bilinear", antialias=True).to(more.dtype)
            return noise if not more.shape[1] else torch.cat([noise, more], 1)  # [B, C, h, w]

        def chosen(given: torch.Tensor | float) -> torch.Tensor | float:
            return torch.full_like(given, timestep) if isinstance(given, torch.Tensor) else timestep

        return self._with(0, _LATENTS_NAMES, noisy)._with(1, _TIMESTEP_NAMES, chosen)

    def with_timestep(self, timestep: float) -> UNetCall:
        """Return the call with a timestep for every row, [B]. Raises ErasureError where it has none."""

        def by_row(given: torch.Tensor | float) -> torch.Tensor:
            like = given if isinstance(given, torch.Tensor) else torch.as_tensor(given)
            return torch.full((self.batch,), timestep, dtype=like.dtype, device=self.latents.device)  # [B]

        return self._with(1, _TIMESTEP_NAMES, by_row)

    def _with(self, position: int, names: Sequence[str], change: Callable[[Any], Any]) -> UNetCall:
        """Return the call with ``change(value)`` for the argument at this position, or of one of these names."""
        for name in names:
            if name in self.kwargs:
                return UNetCall(self.args, {**self.kwargs, name: change(self.kwargs[name])})
        if len(self.args) <= position:
            raise ErasureError(f"the UNet was called without {names[0]}. {_SWITCH_OFF}")
        changed = (*self.args[:position], change(self.args[position]), *self.args[position + 1 :])
        return UNetCall(changed, self.kwargs)

    def run(self, unet: nn.Module) -> Any:
        """Call the UNet with copies of the lists and dicts: diffusers' UNet empties a T2I-Adapter's lists."""
        fresh = self._map(lambda tensor: tensor)
        return unet(*fresh.args, **fresh.kwargs)


def joined(calls: Sequence[UNetCall]) -> UNetCall:
    """Return one call with the rows of several, which differ in nothing but what each row is given."""
    batch = calls[0].batch
    parts = zip(*(call.tensors() for call in calls), strict=True)

    def together(first: torch.Tensor) -> torch.Tensor:
        own = next(parts)
        return torch.cat(own) if first.ndim and first.shape[0] == batch else first

    return calls[0]._map(together)


def noise_of(seed: int, shape: tuple[int, ...]) -> torch.Tensor:
    """Return the noise of a seed, float32, the same on every device."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def _map_tensors(value: Any, change: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    """Return ``value`` with every tensor in its tuples, lists and dicts changed (conditioning of SDXL, residuals)."""
    if isinstance(value, torch.Tensor):
        return change(value)
    if isinstance(value, dict):
        return {key: _map_tensors(item, change) for key, item in value.items()}
    if isinstance(value, (list, tuple)) and type(value) in (list, tuple):
        return type(value)(_map_tensors(item, change) for item in value)
    return value


def context_in(args: Args, kwargs: Kwargs) -> torch.Tensor:
    """Return the context [B, L, D] that an attention layer is called with, its second argument or by name.

    With diffusers' IP-Adapter layers are given a tuple: the context, then what the adapter's pictures are. Raises
    ErasureError for a call without a context.
    """
    for name in _CONTEXT_NAMES:
        value = kwargs.get(name)
        if isinstance(value, tuple) and value:
            value = value[0]
        if isinstance(value, torch.Tensor):
            return value
    for value in args[1:]:
        if isinstance(value, torch.Tensor) and value.ndim == 3:
            return value
    raise ErasureError(f"a cross-attention layer was called without a context. {_SWITCH_OFF}")


def select(indices: Sequence[int]) -> Rows:
    """Return the selector of these row numbers (ascending)."""
    first, last = indices[0], indices[-1]
    if list(indices) == list(range(first, last + 1)):
        return slice(first, last + 1)
    return torch.tensor(indices)


def rows_within(part: torch.Tensor, whole: torch.Tensor) -> slice | None:
    """Return which rows of ``whole`` [B, ...] the view ``part`` [rows, ...] of it is; None where it is no such view."""
    if part is whole:
        return slice(0, len(whole))
    alike = part.shape[1:] == whole.shape[1:] and part.stride() == whole.stride() and part.dtype == whole.dtype
    if not alike or part.untyped_storage().data_ptr() != whole.untyped_storage().data_ptr():
        return None
    first, rest = divmod(int(part.storage_offset()) - int(whole.storage_offset()), whole.stride(0) or 1)
    if rest or first < 0 or first + len(part) > len(whole):
        return None
    return slice(first, first + len(part))
