"""Ways to leave a concept out of images, side by side: growth inhibitors and what else there is."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

import torch

from ..attention import find_cross_attention
from ..demo.settings import CFG, SIZE, STEPS
from ..pipeline import GrowthInhibitors
from .generate import generate

Make = Callable[[Sequence[str], Sequence[int], str], torch.Tensor]
"""Prompts, seeds and the concept to leave out of all of them -> images float32 [B, 3, H, W], 0 to 1."""

_JOINT = r"(?:and|with|next to|,)"


def without_word(prompt: str, concept: str) -> str:
    """The prompt without the concept's word, its article and the joint that held it."""
    noun = rf"(?:\ban?\s+|\bthe\s+)?\b{re.escape(concept)}\b"
    text = re.sub(rf"\s*{_JOINT}\s+{noun}|{noun}\s+{_JOINT}\s+|{noun}", " ", prompt, flags=re.IGNORECASE)
    return " ".join(text.split())


def plain(pipe: Any) -> Make:
    """No erasure."""
    return lambda prompts, seeds, concept: generate(pipe, prompts, seeds)


def negative_prompt(pipe: Any) -> Make:
    """The concept as the negative prompt."""
    return lambda prompts, seeds, concept: generate(pipe, prompts, seeds, negative_prompt=[concept] * len(prompts))


def word_removed(pipe: Any) -> Make:
    """The concept's word taken out of the prompt; where it is only implied nothing changes."""
    return lambda prompts, seeds, concept: generate(pipe, [without_word(p, concept) for p in prompts], seeds)


def growth_inhibitors(pipe: Any, **options: Any) -> Make:
    """This project; ``options``: those of GrowthInhibitors, an adapter may depend on the concept."""

    def make(prompts, seeds, concept):
        chosen = {name: value(concept) if callable(value) else value for name, value in options.items()}
        with GrowthInhibitors(pipe, concept, **chosen):
            return generate(pipe, prompts, seeds)

    return make


# -- negative tokens ------------------------------------------------


def _states(pipe: Any, texts: Sequence[str]) -> torch.Tensor:
    """Text states [B, 77, D]."""
    return pipe.encode_prompt(list(texts), pipe._execution_device, 1, False)[0]


def negpip(pipe: Any, strength: float) -> Make:
    """Negative tokens as NegPiP has them: the concept's own tokens join the prompt, their values times -strength."""

    def make(prompts, seeds, concept):
        own = len(pipe.tokenizer(concept).input_ids) - 2
        states, empty = _states(pipe, [*prompts, concept]), _states(pipe, [""] * len(prompts))
        added = states[-1:, 1 : 1 + own].expand(len(prompts), -1, -1)  # [B, n, D]
        positive = torch.cat([states[:-1], added], 1)  # [B, 77 + n, D]
        padding = empty[:, -1:].expand(-1, own, -1)  # [B, n, D]
        negative = torch.cat([empty, padding], 1)  # [B, 77 + n, D]

        def turn(module, args, values):  # values [2 B, 77 + n, h*d], conditional rows last
            values[len(prompts) :, -own:] *= -strength
            return values

        with ExitStack() as stack:
            for layer in find_cross_attention(pipe.unet):
                stack.callback(layer.module.to_v.register_forward_hook(turn).remove)
            return generate(pipe, None, seeds, prompt_embeds=positive, negative_prompt_embeds=negative)

    return make


# -- other guidance, by diffusers' own pipelines ------------------------------------------------


def _parts(pipe: Any) -> dict:
    names = ("vae", "text_encoder", "tokenizer", "unet", "scheduler")
    return {**{name: getattr(pipe, name) for name in names}, "safety_checker": None, "feature_extractor": None}


def _call(other: Any, prompts, seeds, **options) -> torch.Tensor:
    other.set_progress_bar_config(disable=True)
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    images = other(
        list(prompts), num_inference_steps=STEPS, guidance_scale=CFG, width=SIZE, height=SIZE,
        generator=generators, output_type="np", **options,
    ).images  # fmt: skip
    return torch.from_numpy(images).permute(0, 3, 1, 2).float()  # [B, 3, H, W]


def sld(pipe: Any, level: str) -> Make:
    """Safe Latent Diffusion with the concept as the safety concept; ``level``: WEAK, MEDIUM, STRONG or MAX.

    Its warm-up is given in steps of 50; here it is the same fraction.
    """
    from diffusers.pipelines.deprecated.stable_diffusion_safe import SafetyConfig, StableDiffusionPipelineSafe

    config = dict(getattr(SafetyConfig, level))
    config["sld_warmup_steps"] = round(config["sld_warmup_steps"] * STEPS / 50)
    other = StableDiffusionPipelineSafe(**_parts(pipe), requires_safety_checker=False)

    def make(prompts, seeds, concept):
        other.safety_concept = concept
        return _call(other, prompts, seeds, **config)

    return make


def sega(pipe: Any, scale: float, threshold: float) -> Make:
    """Semantic Guidance away from the concept."""
    from diffusers.pipelines.deprecated.semantic_stable_diffusion import SemanticStableDiffusionPipeline

    other = SemanticStableDiffusionPipeline(**_parts(pipe), requires_safety_checker=False)

    def make(prompts, seeds, concept):
        return _call(
            other, prompts, seeds, editing_prompt=[concept], reverse_editing_direction=[True],
            edit_guidance_scale=[scale], edit_threshold=[threshold], edit_warmup_steps=[round(0.2 * STEPS)],
        )  # fmt: skip

    return make
