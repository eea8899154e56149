"""The state in which the WebUI samples images of a prompt, for calls of the model outside of a generation.

A generation leaves much of its state behind: LoRAs and hypernetworks, the noise schedule, tiling. Calls that
are to tell of a prompt's images are made in that prompt's own state.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from modules import devices, extra_networks, prompt_parser, sd_samplers, shared

from .chosen import HOST
from .model import text_encoders
from .plain_words import are_plain_words

_OPTIONS = (
    "CLIP_stop_at_last_layers", "sdxl_clip_l_skip", "emphasis", "use_old_emphasis_implementation",
    "use_old_scheduling", "comma_padding_backtrack", "pad_cond_uncond", "pad_cond_uncond_v0", "upcast_attn",
    "sd_vae", "sd_unet", "sd_lora", "sd_hypernetwork", "extra_networks_default_multiplier", "lora_functional",
    "token_merging_ratio", "sd_noise_schedule", "use_downcasted_alpha_bar", "tiling", "fp8_storage",
    "s_min_uncond", "s_min_uncond_all", "skip_early_cond", "eta_ancestral", "eta_noise_seed_delta", "randn_source",
)  # fmt: skip
"""Settings that images depend on beside what a request says itself."""


def shown(value: Any) -> str:
    """Write a value, a number alike whether the page has set it or the API."""
    return f"{value:g}" if isinstance(value, (int, float)) and not isinstance(value, bool) else str(value)


@dataclass(frozen=True)
class Settings:
    """The values of the settings that images depend on, by name."""

    values: dict[str, Any]

    @property
    def unusual(self) -> str:
        """The settings that are not as the WebUI has them when it is installed."""
        usual = {name: info.default for name, info in shared.opts.data_labels.items()}
        found = [f"{name} {shown(value)}" for name, value in self.values.items() if value != usual.get(name)]
        return ", ".join(found)

    def changed(self, now: Settings) -> str:
        """Return the first setting that is another now, with both values; "" if none is."""
        for name, before in self.values.items():
            if now.values[name] != before:
                return f"{name} was changed from {shown(before)} to {shown(now.values[name])}"
        return ""


def settings() -> Settings:
    """Return the settings as they are now."""
    return Settings({name: getattr(shared.opts, name, None) for name in _OPTIONS})


# -- prompts that one batch can be made of ------------------------------------------------


def networks_in(prompt: str) -> str:
    """Return the tags of extra networks in a prompt, in order; there are none in plain words."""
    if are_plain_words():
        return ""
    return "".join(match[0] for match in extra_networks.re_extra_net.finditer(prompt))


def without_networks(prompt: str) -> str:
    """Return a prompt as the text encoder is given it; plain words as they are."""
    if are_plain_words():
        return prompt
    text: str = extra_networks.parse_prompt(prompt)[0]
    return text


def groups(prompts: Sequence[str], model: Any, scales: Sequence[float] | None = None) -> list[list[int]]:
    """Return the numbers of prompts that can be made in one batch, each image as if it were alone.

    The WebUI gives a batch the extra networks of its first prompt, and lengthens shorter prompts to the longest.
    ``scales``: one for each image. Prompts with several parts are kept apart by it: such an image has several rows.
    """
    found: dict[Any, list[int]] = {}
    for number, prompt in enumerate(prompts):
        text = without_networks(prompt)
        length = 1 if _chunks(text, model) == 1 else text
        scale = (scales[number], text) if scales is not None and parts_of(prompt) > 1 else None
        found.setdefault((networks_in(prompt), length, scale), []).append(number)
    return list(found.values())


def parts_of(prompt: str) -> int:
    """Count the parts of a prompt (AND)."""
    return len(prompt_parser.get_multicond_prompt_list([without_networks(prompt)])[0][0])


def _chunks(text: str, model: Any) -> int:
    """Count a text's chunks of 75 tokens; more than the prompt has where it is edited or has several parts."""
    return max(len(encoder.tokenize_line(text)[0]) for encoder in text_encoders(model))


# -- the state ------------------------------------------------


@contextmanager
def as_for(prompt: str, p: Any, model: Any) -> Iterator[None]:
    """Put the model, within the context, into the state in which images of a prompt are sampled. ``p``: the prompt's.

    Afterwards it is as after such a generation, which the next one does not rely on.
    """
    p.all_prompts = [prompt]
    networks = {} if are_plain_words() else extra_networks.parse_prompts([prompt])[1]
    HOST.take_patches_off(model)
    with devices.autocast():
        extra_networks.activate(p, networks)
    HOST.with_networks(model)
    try:
        with HOST.as_sampled(p, model):
            yield
    finally:
        extra_networks.deactivate(p, networks)


# -- what the UNet is given ------------------------------------------------


@dataclass(frozen=True)
class Prompted:
    """What the UNet is given for prompts at the first step: arguments by name, each [R, ...]; each prompt's rows."""

    arguments: dict[str, torch.Tensor]
    of: list[list[int]]

    @property
    def rows(self) -> int:
        """R, the number of rows."""
        return len(self.arguments["context"])


def prompted(prompts: Sequence[str], model: Any, sampler: str, steps: int, size: tuple[int, int]) -> Prompted:
    """Read prompts as a generation does: weights, prompt editing at its first step, a row for each part of AND.

    ``size``: width and height, pixels. Parts that push their prompt away are left out, as they are not erased from.
    """
    texts = [without_networks(prompt) for prompt in prompts]
    config = sd_samplers.find_sampler_config(sampler)
    batch = prompt_parser.SdConditioning(texts, width=size[0], height=size[1])
    HOST.bring_text_encoder(model)
    with torch.no_grad(), devices.autocast():
        made = prompt_parser.get_multicond_learned_conditioning(
            model, batch, config.total_steps(steps) if config else steps, None, shared.opts.use_old_scheduling
        )
        parts, states = prompt_parser.reconstruct_multicond_batch(made, 0)
    drawn = [[row for row, weight in own if weight > 0] or [row for row, _ in own] for own in parts]
    return Prompted(unet_arguments(states, model), drawn)


def unet_arguments(states: Any, model: Any) -> dict[str, torch.Tensor]:
    """Return what the UNet is given by name for conditioning that the WebUI has made.

    ``context``: text states [R, L, D]; for SDXL also ``y``: pooled text and sizes [R, A].
    """
    found = {"context": states["crossattn"], "y": states["vector"]} if isinstance(states, dict) else {"context": states}
    return {name: value.to(devices.device, HOST.unet_dtype(model)) for name, value in found.items()}
