"""A training loop that can be resumed and is deterministic: step k draws its data from (seed, k) alone."""

from __future__ import annotations

import ctypes
import ctypes.util
import math
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from torch import nn
from tqdm import tqdm

from lib_gie.errors import GieError

from .muon import Muon

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -2, -4, -8


OnSaved = Callable[[Mapping[str, torch.Tensor], int], None]
"""Is told the averaged weights and the number of steps that are done."""


def keep_memory() -> None:
    """Have glibc reuse large blocks instead of returning them: page faults in every step cost more than the arithmetic.

    Does nothing on other C libraries. Call it before the first large allocation.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        for option, value in ((_M_ARENA_MAX, 1), (_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, 2**31 - 1), (_M_TOP_PAD, 2**26)):
            mallopt(option, value)


def step_seed(seed: int, step: int) -> int:
    """Return a seed for one step, non-negative and below 2**63, which differs between steps and runs."""
    return (seed * 1_000_003 + step * 7_919 + 17) % 2**63


def cosine_rate(step: int, steps: int, peak: float, warmup: int = 100, floor: float = 0.02) -> float:
    """Return the learning rate of a step: linear warm-up, then half a cosine down to ``floor * peak``."""
    if step < warmup:
        return peak * (step + 1) / warmup
    progress = (step - warmup) / max(1, steps - warmup)
    return peak * (floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * min(1.0, progress))))


class Average:
    """The exponential moving average of a module's parameters, which is what is sampled from and shipped."""

    def __init__(self, module: nn.Module, decay: float):
        self.decay = decay
        self.shadow = {name: value.detach().clone() for name, value in module.state_dict().items()}

    @torch.no_grad()
    def update(self, module: nn.Module, step: int) -> None:
        """Move towards the module's parameters, faster during the first steps."""
        decay = min(self.decay, (step + 1) / (step + 10))
        values = {name: value for name, value in module.state_dict().items() if value.dtype.is_floating_point}
        torch._foreach_lerp_([self.shadow[name] for name in values], list(values.values()), 1 - decay)


def save_state(path: Path, state: dict) -> None:
    """Write a training state in one move, so that an interruption leaves the previous one whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    torch.save(state, partial)
    os.replace(partial, path)


def load_state(path: Path, identity: str) -> dict | None:
    """Return the saved training state, of tensors and plain values only, or None where there is none.

    ``identity``: all that the training depends on, in words; the state's "identity" must be the same. Raises GieError
    where it is another training's.
    """
    if not path.exists():
        return None
    state = torch.load(path, map_location="cpu", weights_only=True)
    found = state.get("identity")
    if found != identity:
        raise GieError(
            f"{path} is the state of another training ({found}) than this one ({identity}); give another --state "
            f"folder, or the arguments that it was begun with"
        )
    return state


def _optimizers(module: nn.Module, rate: float, muon_rate: float | None) -> list[torch.optim.Optimizer]:
    """Return the optimizers, each with its peak rate in its groups."""
    matrices = [value for value in module.parameters() if muon_rate is not None and value.ndim > 1]
    others = [value for value in module.parameters() if muon_rate is None or value.ndim <= 1]
    adam = torch.optim.AdamW(others, lr=rate, betas=(0.9, 0.99), weight_decay=0.01, foreach=True)
    optimizers: list[torch.optim.Optimizer] = [adam]
    if muon_rate is not None:
        optimizers.append(Muon(matrices, lr=muon_rate))
    for optimizer, peak in zip(optimizers, (rate, muon_rate), strict=False):
        optimizer.param_groups[0]["peak"] = peak
    return optimizers


def _descend(
    module: nn.Module, optimizers: Sequence[torch.optim.Optimizer], loss: torch.Tensor, step: int, steps: int
) -> None:
    """Make one step with clipping, at the rates of this step."""
    module.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(module.parameters(), 1.0)
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = cosine_rate(step, steps, group["peak"])
        optimizer.step()


class _Losses:
    """The smoothed loss that the progress bar shows. It is read now and then: a card would wait for every reading."""

    def __init__(self, every: int = 20):
        self._every = every
        self._new: list[torch.Tensor] = []
        self.smooth: float | None = None

    def add(self, loss: torch.Tensor) -> bool:
        """Take one step's loss. Return whether the smoothed one is new."""
        self._new.append(loss.detach())
        if len(self._new) < self._every:
            return False
        for value in torch.stack(self._new).tolist():
            self.smooth = value if self.smooth is None else 0.98 * self.smooth + 0.02 * value
        self._new.clear()
        return True


def _resume(
    state: dict | None, module: nn.Module, average: Average, optimizers: Sequence[torch.optim.Optimizer]
) -> int:
    """Load a saved state, if there is one, to where these lie. Return the number of steps that are done."""
    if state is None:
        return 0
    module.load_state_dict(state["module"])
    for name, value in state["average"].items():
        average.shadow[name].copy_(value)
    for optimizer, saved in zip(optimizers, state["optimizers"], strict=True):
        optimizer.load_state_dict(saved)
    return state["step"]


def run(
    module: nn.Module,
    loss_of_step: Callable[[int], torch.Tensor],
    *,
    steps: int,
    rate: float,
    state_path: Path,
    decay: float = 0.999,
    muon_rate: float | None = None,
    save_every: int = 250,
    label: str = "training",
    identity: str = "",
    on_saved: OnSaved | None = None,
) -> Average:
    """Train a module with clipping and a moving average, going on from ``state_path`` where it exists.

    ``loss_of_step(step)`` returns the scalar loss of that step. The optimizer is AdamW; with ``muon_rate`` Muon takes
    the matrices and convolutions. Returns the average after the last step. ``identity``: see ``load_state``.
    ``on_saved`` is called after each save.
    """
    optimizers, average = _optimizers(module, rate, muon_rate), Average(module, decay)
    first = _resume(load_state(state_path, identity), module, average, optimizers)
    losses = _Losses()
    bar = tqdm(range(first, steps), initial=first, total=steps, desc=label, mininterval=5, dynamic_ncols=True)
    for step in bar:
        loss = loss_of_step(step)
        _descend(module, optimizers, loss, step, steps)
        average.update(module, step)
        if losses.add(loss):
            bar.set_postfix(loss=f"{losses.smooth:.4f}", refresh=False)
        done = step + 1
        if done % save_every == 0 or done == steps:
            save_state(
                state_path,
                {
                    "identity": identity,
                    "step": done,
                    "module": module.state_dict(),
                    "average": average.shadow,
                    "optimizers": [optimizer.state_dict() for optimizer in optimizers],
                },
            )
            if on_saved is not None:
                on_saved(average.shadow, done)
    return average
