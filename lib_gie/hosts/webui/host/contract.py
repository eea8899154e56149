"""What is used of the WebUI's own objects, and what a program with the WebUI's interface says of itself.

When the host changes, this is the file to compare with it. Members under "not everywhere" are read with a default,
since some versions, forks, models or kinds of generation lack them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

import torch
from torch import nn

from lib_gie.hosts.protocol import StepRows


class Processing(Protocol):
    """``p``, a ``StableDiffusionProcessing``: one request of a user, with all its batches."""

    sd_model: Model
    """The loaded model; a property, which follows changes."""
    batch_size: int
    """Images at once."""
    extra_generation_params: dict[str, Any]
    """The infotext's fields: a value, a list by image, or a function that is called as each image is saved."""
    prompts: Sequence[str]
    """The prompts of the running batch, by image, without the tags of extra networks."""
    negative_prompts: Sequence[str]
    """The negative prompts of the running batch."""
    seeds: Sequence[int]
    """The seeds of the running batch."""
    subseeds: Sequence[int]
    """The variation seeds of the running batch."""
    all_prompts: Sequence[str]
    """The prompts of all batches."""
    all_seeds: Sequence[int]
    """The seeds of all batches."""
    all_subseeds: Sequence[int]
    """The variation seeds of all batches."""
    sample: Callable[..., Any]
    """Samples one batch, Hires. fix included; what replaces it stands around the sampling."""
    scripts: Any
    """Runs the scripts; None or missing where there are none (``modules.scripts.ScriptRunner``)."""
    rng: Any
    """Draws the running batch's noise (``modules.rng.ImageRNG``)."""
    disable_extra_networks: bool
    """Whether LoRAs and other extra networks are switched off."""
    extra_network_data: Any
    """The extra networks of the running batch, by kind."""
    outpath_samples: str
    """The folder where images are saved."""
    do_not_save_samples: bool
    """Whether images are not saved."""
    do_not_save_grid: bool
    """Whether the grid of all images is not made."""
    restore_faces: bool
    """Whether faces are restored in finished images."""
    color_corrections: Sequence[Any] | None
    """By image, the colours that img2img gives back."""
    paste_to: Any
    """Where an inpainted part belongs in its image."""
    iteration: int
    """The number of the running batch; there is none before the first."""
    batch_index: int
    """The number, within the batch, of the image that is being finished."""

    # -- not everywhere: script_args, steps, width, height, cfg_scale; of txt2img enable_hr, is_hr_pass,
    # hr_prompts, hr_second_pass_steps, hr_cfg, hr_extra_network_data; of img2img overlay_images, mask_for_overlay

    def comment(self, text: str) -> None:
        """Show a text under the images."""

    def get_token_merging_ratio(self) -> float:
        """The share of tokens that token merging joins."""


class Sampler(Protocol):
    """What a denoiser belongs to."""

    sampler_extra_args: dict[str, Any]
    """``cond``: the prompts' parts (``batch``: by image, each with its ``weight``); ``cond_scale``: the CFG scale;
    ``s_min_uncond``: Negative Guidance minimum sigma."""


class Denoiser(Protocol):
    """A ``CFGDenoiser``: calls the UNet for all rows of a step, and applies the guidance."""

    sampler: Sampler
    p: Processing
    step: int
    """The number of the step, from 0 in each pass."""
    total_steps: int
    """The steps of the pass."""
    cond_scale_miltiplier: float
    """What an extension multiplies the CFG scale by (the host spells it so)."""

    # -- not everywhere: image_cfg_scale (of models that edit a picture; None or 1: without effect), inner_model (the
    # module that it calls the UNet through)


class StepParams(Protocol):
    """``CFGDenoiserParams``: what the cfg_denoiser callback is given before a step, where others may change it."""

    denoiser: Denoiser
    x: torch.Tensor
    """The latents of all rows [rows, C, H, W]; on Forge one row for each image."""
    text_cond: Any
    """The context of the conditional rows [rows, L, D]; with SDXL a dict that has it as ``crossattn``."""
    text_uncond: Any
    """The context of one unconditional row for each image."""


class Model(Protocol):
    """The loaded checkpoint, ``shared.sd_model``.

    Not everywhere: ``sd_checkpoint_info``, ``model`` (around ``diffusion_model``, the UNet), ``cond_stage_model`` (the
    text encoder), ``conditioner`` (SDXL's, around its text encoders), ``cond_stage_key`` ("edit": InstructPix2Pix),
    ``is_sd3``, ``is_sdxl``, ``lowvram``, ``parameterization``, ``alphas_cumprod``; on Forge ``text_processing_engine``,
    ``forge_objects``, ``forge_objects_original``, ``forge_objects_after_applying_lora``, ``set_clip_skip``.
    """


class TextEncoder(Protocol):
    """A wrapper of a text encoder.

    Not everywhere: ``tokenizer``, ``hijack`` or ``embeddings`` (textual inversions), ``encode_embedding_init_text``,
    ``token_mults`` (the brackets of the old emphasis).
    """

    id_start: int
    """The number of BOS."""
    id_end: int
    """The number of EOS, which pads as well."""

    def tokenize(self, texts: Sequence[str]) -> Sequence[Sequence[int]]:
        """Split texts into numbers of tokens, without BOS and EOS."""

    def tokenize_line(self, line: str) -> tuple[Sequence[Any], int]:
        """Split a prompt into chunks of 75 tokens, and count its tokens."""

    def process_tokens(self, tokens: Sequence[Sequence[int]], multipliers: Sequence[Sequence[float]]) -> torch.Tensor:
        """Encode rows of 77 tokens with a weight for each: [rows, 77, D]."""


class WebUI(Protocol):
    """A program of the WebUI's interface: all in which AUTOMATIC1111's and Forge differ. ``chosen.HOST`` is this one's.

    What takes a ``model`` is given the loaded one.
    """

    @property
    def refusal(self) -> str | None:
        """Why nothing can be erased in this program; None where it can."""

    @property
    def trains_adapters(self) -> bool:
        """Whether adapters can be trained here: training calls the UNet outside of a sampling."""

    @property
    def calibrates(self) -> bool:
        """Whether concepts can be calibrated here: that calls the UNet outside of a sampling as well."""

    @property
    def makes_unerased_later(self) -> bool:
        """Whether its page can ask for the image without erasure when the job is done."""

    @property
    def notes_readings(self) -> bool:
        """Whether it can be noted how prompts are read, as they are encoded."""

    @property
    def presets(self) -> str:
        """The presets that its page offers until somebody edits them, as ``hosts/presets.py`` reads them."""

    def is_loaded(self, model: Any) -> bool:
        """Tell whether this is a checkpoint's model, and not what stands for one until some is loaded."""

    def unsupported_kind(self, model: Model) -> str | None:
        """Say what kind of model nothing can be erased from this is; None for others."""

    def text_encoder(self, model: Model) -> Any:
        """Return what tokenizes and encodes; None for models that have it in another place."""

    def text_weights(self, model: Model) -> list[nn.Parameter]:
        """Return the text encoder's weights."""

    def vectors_of(self, encoder: Any) -> Any:
        """Return what puts the vectors of textual inversions in their places; ``fixes`` has those of the next call."""

    def inversions_of(self, encoder: Any) -> Any | None:
        """Return the database of textual inversions, also an empty one."""

    def bring_text_encoder(self, model: Model) -> None:
        """Bring the text encoder where it can run."""

    def around_unet(self, model: Model) -> Any:
        """Return the object whose ``diffusion_model`` is the UNet."""

    def bring_unet_back(self, model: Model, latents: torch.Tensor) -> None:
        """Bring the UNet back after concepts were encoded within a sampling of ``latents`` [B, C, H, W]."""

    def bring_unet(self, model: Model, latents: torch.Tensor) -> None:
        """Bring the UNet where it can be called with ``latents`` [B, C, H, W] outside of a sampling."""

    def unet_dtype(self, model: Model) -> torch.dtype:
        """Return the type of the numbers that the UNet is called with. Its weights may be kept in a smaller one."""

    def alphas_cumprod(self, model: Model) -> torch.Tensor:
        """Return the share of signal at every timestep [timesteps]."""

    def predicts_velocity(self, model: Model) -> bool:
        """Tell whether the UNet's output is the velocity, and not the noise."""

    def reload_model(self, p: Processing) -> None:
        """Load what the request samples with first: Hires. fix and refiners load other checkpoints."""

    def take_patches_off(self, model: Model) -> None:
        """Take off what the passes before have patched the model with, before extra networks are activated."""

    def with_networks(self, model: Model) -> None:
        """Have the model sample with its LoRAs, once the extra networks are activated."""

    def as_sampled(self, p: Processing, model: Model) -> AbstractContextManager[None]:
        """Make a context in which the model is as it samples for ``p``, once the extra networks are activated."""

    def as_in_job(self, p: Processing, model: Model) -> None:
        """Have the model again as the job ``p`` has prepared it before its first batch."""

    def step_rows(self, p: Processing, params: StepParams) -> StepRows:
        """Return the rows of a denoiser call. Raises ErasureError where they, or what draws the image, are unknown."""

    def guidance(self, params: StepParams) -> float:
        """Return the most that a prompt is multiplied by in a denoiser call: CFG scale times its parts' weights."""
