"""What other extensions do to a generation, as far as it must be known to erase the right thing.

Each is found by what it leaves on the host's objects, so that none has to be installed.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from lib_gie.errors import ErasureError
from lib_gie.handles import take_off
from lib_gie.randomness import undrawn

from .contract import Processing
from .known_extensions import NEGPIP_FILE, REGIONAL_PROMPTER_FILE

# -- what goes on from call to call ------------------------------------------------

_COUNTING = (REGIONAL_PROMPTER_FILE, NEGPIP_FILE)
_VAE_CACHE = "controlnet_vae_cache"
_COUNTERS = ("count", "pn", "condi", "latenti")


def _scripts(p: Any) -> list[Any]:
    return list(getattr(getattr(p, "scripts", None), "alwayson_scripts", None) or ())


def _counting_scripts(p: Any) -> list[Any]:
    return [script for script in _scripts(p) if os.path.basename(getattr(script, "filename", "")) in _COUNTING]


def _globals_of(script: Any) -> dict[str, Any]:
    """Return the globals of the file that a script comes from; the WebUI does not keep it under its name."""
    found: dict[str, Any] = type(script).ui.__globals__
    return found


def _control_params(p: Any) -> list[Any]:
    """Return ControlNet's units of this generation.

    They encode their picture, with random numbers, when it is first used.
    """
    networks = [getattr(script, "latest_network", None) for script in _scripts(p)]
    return [param for network in networks for param in getattr(network, "control_params", None) or ()]


@contextmanager
def undisturbed(p: Processing) -> Iterator[None]:
    """Keep UNet calls within the context from changing what others count, draw or encode by the UNet's calls."""
    spaces = [space for script in _counting_scripts(p) for space in (vars(script), _globals_of(script))]
    before = [{name: space[name] for name in _COUNTERS if name in space} for space in spaces]
    with ExitStack() as kept:
        kept.enter_context(_tile_sizes_undrawn())
        kept.enter_context(_merging_size_kept(p))
        kept.enter_context(_pictures_unread(p))
        kept.enter_context(undrawn())  # ControlNet adds noise to its picture
        try:
            yield
        finally:
            for space, counted in zip(spaces, before, strict=True):
                space.update(counted)


def _unet_of(p: Any) -> Any:
    return getattr(getattr(getattr(p, "sd_model", None), "model", None), "diffusion_model", None)


@contextmanager
def _merging_size_kept(p: Processing) -> Iterator[None]:
    """Put the size back that token merging has noted of the host's call: its layers divide by it."""
    noted = getattr(_unet_of(p), "_tome_info", None)
    before = dict(noted) if isinstance(noted, dict) else {}
    try:
        yield
    finally:
        if isinstance(noted, dict):
            noted.update(before)


@contextmanager
def _tile_sizes_undrawn() -> Iterator[None]:
    """Put Hypertile's random numbers back after the context: it draws the sizes of its tiles in every UNet call."""
    numbers = getattr(sys.modules.get("hypertile"), "RNG_INSTANCE", None)
    state = numbers.getstate() if numbers is not None else None
    try:
        yield
    finally:
        if numbers is not None:
            numbers.setstate(state)


@contextmanager
def _pictures_unread(p: Any) -> Iterator[None]:
    """Put ControlNet's units back after the context: they have encoded their pictures only if they had before."""
    cache = getattr(p, _VAE_CACHE, None)
    with _restored(_control_params(p)):
        yield
    if hasattr(p, _VAE_CACHE):
        setattr(p, _VAE_CACHE, cache)


@contextmanager
def _restored(owners: list[Any]) -> Iterator[None]:
    """Give these objects, after the context, the attributes that they had before."""
    before = [dict(vars(owner)) for owner in owners]
    try:
        yield
    finally:
        for owner, kept in zip(owners, before, strict=True):
            vars(owner).clear()
            vars(owner).update(kept)


@contextmanager
def as_before(p: Processing) -> Iterator[None]:
    """Put other extensions back after a sampling within the context: they draw, and note steps, sizes and passes."""
    scripts = _counting_scripts(p)
    try:
        with _tile_sizes_undrawn(), _restored(scripts), _pictures_unread(p):
            yield
    finally:
        for script in filter(_draws_regions, scripts):
            _globals_of(script)["reset_pmasks"](script)  # as at the start of its batch


@contextmanager
def scripts_as_before(p: Processing) -> Iterator[None]:
    """Give ``p`` and all its always-on scripts, after the context, the attributes that they had before."""
    with _restored([p, *_scripts(p)]):
        yield


def _draws_regions(script: Any) -> bool:
    """Tell whether Regional Prompter makes its regions of the prompt's attention, summed over the steps."""
    active, mode = getattr(script, "active", False), getattr(script, "mode", "")
    return bool(active) and "Pro" in str(mode) and "reset_pmasks" in _globals_of(script)


def check_own_calls(p: Processing, request: Any) -> None:
    """Raise ErasureError where UNet calls of ours in every step would be taken for the image's."""
    if any(map(_draws_regions, _counting_scripts(p))) and (
        request.concept_pass == "separate" or request.keep_composition
    ):
        raise ErasureError(
            "Regional Prompter draws the regions of its Prompt mode from the attention of every UNet call, so there "
            "may be none but the image's own: set the concept pass to fused and do not keep the composition, or use "
            "its Matrix or Mask mode"
        )


def check_order(p: Processing, rows: Sequence[Any]) -> None:
    """Raise ErasureError where a denoiser call's rows (None: unconditional) come in another order than announced.

    Regional Prompter's Latent mode sorts them by region, which matters only if not all parts are to be erased from.
    """
    pushed_away = sum(row is None for row in rows) > p.batch_size
    sorting = any(s.active and getattr(s, "calc", "") == "Latent" for s in _counting_scripts(p) if hasattr(s, "active"))
    if p.batch_size > 1 and pushed_away and sorting:
        raise ErasureError(
            "Regional Prompter's Latent mode changes the order of a batch's prompts, and one of them has a negative "
            "weight, so it is unknown which are drawn: use a batch size of 1, or no negative weight"
        )


# -- Tiled Diffusion: every tile is a UNet call, or several are one ------------------------------------------------


def _is_tiling(owner: Any, name: str) -> bool:
    replaced = getattr(vars(owner).get(name), "__self__", None)
    return type(replaced).__module__.startswith("tile_methods.")


def makes_tiles(denoiser: Any, model: Any) -> bool:
    """Tell whether Tiled Diffusion makes this denoiser's images in tiles: all rows of a tile, then the next one's."""
    inner = getattr(denoiser, "inner_model", None)
    return inner is not None and (_is_tiling(inner, "forward") or _is_tiling(model, "apply_model"))


@contextmanager
def around_calls(module: torch.nn.Module, context: Any) -> Iterator[None]:
    """Put ``context(rows)`` around every call of ``module``, ``rows`` being the number of its first argument's rows."""
    entered: list[ExitStack] = []

    def before(module: torch.nn.Module, args: Any) -> None:
        stack = ExitStack()
        stack.enter_context(context(args[0].shape[0]))
        entered.append(stack)

    def after(module: torch.nn.Module, args: Any, output: Any) -> None:
        entered.pop().close()

    handles = [module.register_forward_pre_hook(before), module.register_forward_hook(after)]
    try:
        yield
    finally:
        for handle in handles:
            take_off(module, handle)


# -- Neutral Prompt: prompts within prompts, joined in its own way ------------------------------------------------


@dataclass(frozen=True)
class Weights:
    """The weights of one image's prompt.

    ``parts``: that of each part of its AND; ``total``: the sum of those that the image is drawn by.
    """

    parts: tuple[float, ...]
    total: float


def part_weights(denoiser: Any, image_parts: list[list[Any]]) -> list[Weights]:
    """Return the weights of every image. ``image_parts``: the WebUI's parts, which know the innermost weight only.

    Raises ErasureError where Neutral Prompt joins other parts than the WebUI has.
    """
    own = [Weights(weights, sum(weights)) for weights in (tuple(p.weight for p in parts) for parts in image_parts)]
    combine = getattr(vars(denoiser).get("combine_denoised"), "func", None)
    state = getattr(combine, "__globals__", {}).get("global_state")
    if state is None or not getattr(state, "is_enabled", False):
        return own
    found = [
        Weights(tuple(_leaves(expression)), sum(c.weight for c in expression.children if c.conciliation is None))
        for expression in state.prompt_exprs
    ]
    if [len(weights.parts) for weights in found] != [len(weights.parts) for weights in own]:
        raise ErasureError(
            "Neutral Prompt joins other parts of the prompt than the WebUI samples, so it is unknown which of them "
            "draw the image; another extension changes the prompt as well: switch one of them off"
        )
    return found


def _leaves(expression: Any, factor: float = 1.0) -> Iterator[float]:
    """Yield the weights of all innermost prompts: a prompt is drawn that is pushed away by one pushed away itself."""
    factor *= expression.weight
    children = getattr(expression, "children", None)
    if children is None:
        yield factor
    for child in children or ():
        yield from _leaves(child, factor)
