"""The rows of one denoiser call of AUTOMATIC1111's WebUI: names, shares, and what they are told apart by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from modules import shared

from lib_gie.checks import check_prompt_draws_all
from lib_gie.core.rows import Identities, Name
from lib_gie.errors import ErasureError

from .contract import Denoiser, StepParams
from .other_extensions import Weights, part_weights


@dataclass(frozen=True, eq=False)
class DenoiserRows:
    """A denoiser call's rows in the WebUI's order: all conditional ones, then all without the prompt. See ``StepRows``.

    ``params``: the call's. ``names``: (image, part of its AND) for conditional rows, None for those that are not erased
    from. ``images``: the number of each row's image. ``shares``: how large a part of its image each makes; an image's
    add up to 1.
    """

    params: StepParams
    names: list[Name]
    images: list[int]
    shares: list[float]
    order = None  # UNet calls may have the rows in any order: they are told apart by what they are

    @classmethod
    def read(cls, params: StepParams) -> DenoiserRows:
        """Find the rows of a denoiser call.

        Parts with a negative weight push their prompt away. They count as unconditional here, since inhibiting the
        concept in them would bring it in. Raises ErasureError where the rows do not add up, and where the negative
        prompt has a say in the image.
        """
        denoiser = params.denoiser
        arguments = denoiser.sampler.sampler_extra_args
        parts, groups = part_weights(denoiser, arguments["cond"].batch), _groups_without_prompt(denoiser)
        _check_count(params.x.shape[0], parts, groups)
        cfg = arguments["cond_scale"]
        scale = _scale(denoiser)
        names: list[Name] = []
        images: list[int] = []
        shares: list[float] = []
        for image, weights in enumerate(parts):
            check_prompt_draws_all(scale, weights.parts, cfg, weights.total)
            if len(weights.parts) > 1 and _may_skip_unconditional_rows(denoiser):
                _check_skipping(weights)
            names += [(image, number) if weight >= 0 else None for number, weight in enumerate(weights.parts)]
            images += [image] * len(weights.parts)
            shares += [scale * weight for weight in weights.parts]
        for group in range(groups):
            images += range(len(parts))
            for weights in parts:
                shares.append(_edits_shares(denoiser, scale)[group] if groups == 2 else 1 - scale * weights.total)
        return cls(params, [*names, *[None] * (groups * len(parts))], images, shares)

    def identify(self) -> Identities:
        """Return what the rows are told apart by, after all callbacks have changed ``params`` as they like.

        Raises ErasureError where they have changed what draws the image.
        """
        params = self.params
        if self.read(params).names != self.names:
            raise ErasureError(
                "another extension changes the prompt's weights or the CFG scale after growth inhibitors have read "
                "them, so it is unknown what draws the image: switch it off"
            )
        conditional, other = _crossattn(params.text_cond), _crossattn(params.text_uncond)  # [rows, L, D] each
        repeats = (len(self.names) - len(conditional)) // max(1, len(other))  # twice where InstructPix2Pix edits
        first = {image: position for position, image in reversed(list(enumerate(self.images)))}
        return Identities(
            [conditional, *[other] * repeats], self.images, self.shares, frozenset(first.values()), params.x
        )


def guidance(denoiser: Denoiser) -> float:
    """Return the most that a prompt is multiplied by: CFG scale times the weights of the parts that are drawn."""
    parts = part_weights(denoiser, denoiser.sampler.sampler_extra_args["cond"].batch)
    drawn = [max(weights.total, sum(weight for weight in weights.parts if weight > 0)) for weights in parts]
    return float(_scale(denoiser) * max(drawn, default=1.0))


def _scale(denoiser: Denoiser) -> float:
    """Return what the sampler multiplies a prompt of weight 1 by."""
    return float(denoiser.sampler.sampler_extra_args["cond_scale"] * denoiser.cond_scale_miltiplier)


def _check_count(total: int, parts: list[Weights], groups: int) -> None:
    """Raise ErasureError unless a denoiser call has a row for each part, and ``groups`` for each image, in all."""
    expected = sum(len(weights.parts) for weights in parts) + groups * len(parts)
    if expected != total:
        raise ErasureError(
            f"the sampler announced {total} rows for {len(parts)} images with {expected - groups * len(parts)} "
            f"prompts, where {expected} were expected; their order is unknown, so nothing can be erased. Another "
            f"extension adds rows or takes some away: switch it off"
        )


def _crossattn(cond: Any) -> torch.Tensor:
    """Return the context [rows, L, D] of what the WebUI's text encoders give: a tensor, or SDXL's dict."""
    states: torch.Tensor = cond["crossattn"] if isinstance(cond, dict) else cond  # [rows, L, D]
    return states


def _groups_without_prompt(denoiser: Denoiser) -> int:
    """Count the groups without the prompt, of one row per image each: one, or two where InstructPix2Pix edits.

    InstructPix2Pix has rows with the given picture and the negative prompt, and rows with the negative prompt alone. At
    an image CFG scale of 1 the WebUI samples such a checkpoint like any other.
    """
    edits = getattr(shared.sd_model, "cond_stage_key", None) == "edit"
    return 2 if edits and getattr(denoiser, "image_cfg_scale", None) not in (None, 1.0) else 1


def _may_skip_unconditional_rows(denoiser: Denoiser) -> bool:
    """Tell whether the WebUI may leave the negative prompt out of steps (Skip Early CFG, NGMS)."""
    least = denoiser.sampler.sampler_extra_args.get("s_min_uncond") or 0
    return bool(getattr(shared.opts, "skip_early_cond", 0) or least > 0)


def _check_skipping(weights: Weights) -> None:
    """Raise ErasureError where the first part would be pushed away once it stands in for the negative prompt.

    Then the WebUI adds to its prediction each part's weight times the part's distance from it.
    """
    rest = sum(weights.parts[1:])
    if rest > 1 + 1e-6:
        raise ErasureError(
            f"the weights of the parts of the prompt's AND after its first add up to {rest:g}. With Skip Early CFG or "
            f"NGMS the first part takes the negative prompt's place in some steps, so at more than 1 it would be "
            f"pushed away there. Use smaller weights, or set Skip Early CFG and Negative Guidance minimum sigma to 0"
        )


def _edits_shares(denoiser: Denoiser, scale: float) -> list[float]:
    """Return the shares of the two rows without the prompt of an image that InstructPix2Pix edits."""
    edits = float(getattr(denoiser, "image_cfg_scale"))  # noqa: B009  # not everywhere, but where it edits
    return [edits - scale, 1 - edits]
