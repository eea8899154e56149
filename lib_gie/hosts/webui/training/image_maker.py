"""The loaded checkpoint as what labelling makes its images with (see ``lib_gie.training.image_maker``).

Whatever is made, read or judged for a prompt is done in the state that an image of that prompt has (see
``prompt_state.py``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from modules import devices, paths_internal, processing, prompt_parser, sd_models, sd_vae, shared
from modules.call_queue import queue_lock
from PIL import Image

from lib_gie.core.call import LAST_TIMESTEP, LATENT_CHANNELS
from lib_gie.core.concepts import Concept
from lib_gie.core.encoding import EncodedConcept
from lib_gie.core.recorder import Reading
from lib_gie.core.scales.scale_rules import GivenScales
from lib_gie.core.session import erasing, read_inputs
from lib_gie.errors import ErasureError
from lib_gie.hosts.webui.host.chosen import HOST
from lib_gie.hosts.webui.host.model import (
    callable_unet,
    clip_skip,
    encode_concept,
    family_and_heads,
    split_tokens,
    unet_of,
    weights_of,
)
from lib_gie.hosts.webui.host.pictures import blank_picture, with_picture
from lib_gie.hosts.webui.host.prompt_state import (
    Prompted,
    as_for,
    groups,
    networks_in,
    parts_of,
    prompted,
    settings,
    shown,
    unet_arguments,
    without_networks,
)
from lib_gie.hosts.webui.request.asked import give_plan
from lib_gie.hosts.webui.request.infotext import ScaleSource
from lib_gie.hosts.webui.request.parsing import Request
from lib_gie.hosts.webui.request.plan import Plan
from lib_gie.hosts.webui.request.plans import automatic_text
from lib_gie.options import FIXED
from lib_gie.training.image_maker import Made

from .progress import BatchStoppedError
from .trainable import trainable_family

JOB = "growth inhibitors: training"

_ROWS = 16  # of one UNet call outside of sampling


Size = tuple[int, int]
"""Width and height in pixels."""


Turn = Callable[[], AbstractContextManager[None]]
"""Makes a context in which the WebUI's model may be used."""


@contextmanager
def take_turn() -> Iterator[None]:
    """Take a turn in the WebUI's queue for one batch, so that other people's generations come in between."""
    with queue_lock:
        shared.state.begin(job=JOB)
        try:
            sd_models.reload_model_weights()  # a generation may have left its refiner behind
            yield
        finally:
            shared.state.end()


@contextmanager
def _last_prompt_kept() -> Iterator[None]:
    """Keep params.txt as it is within the context.

    The WebUI writes every generation's infotext there, for the button that brings a user's last one back.
    """
    path = Path(paths_internal.data_path) / "params.txt"
    before = path.read_bytes() if path.is_file() else None
    try:
        yield
    finally:
        if before is not None:
            path.write_bytes(before)
        else:
            path.unlink(missing_ok=True)


class ChosenCheckpoint:
    """The checkpoint and the settings that were chosen when a training began; others are an error later.

    Raises UnsupportedModelError for a checkpoint that makes no image from a prompt alone.
    """

    def __init__(self, model: Any):
        self.base = trainable_family(model)
        info = model.sd_checkpoint_info
        self.name, self.hash = info.name_for_extra, info.shorthash or info.hash or info.name_for_extra
        self.clip_skip, self.weights = clip_skip(), weights_of(model)
        self._file, self._settings = info.filename, settings()
        self.description = (
            f"clip skip {shown(self.clip_skip)}, VAE {sd_vae.get_loaded_vae_name()}, "
            f"{self._settings.unusual or 'usual settings'}"
        )

    def model(self) -> Any:
        """Return the loaded model. Raises ErasureError where it, or a setting, is another one now."""
        model = shared.sd_model
        if model.sd_checkpoint_info.filename != self._file:
            raise ErasureError(
                f"the checkpoint was changed from {self.name} to {model.sd_checkpoint_info.name_for_extra} while an "
                f"adapter was being trained on it; load {self.name} again and go on"
            )
        changed = self._settings.changed(settings())
        if changed:
            raise ErasureError(
                f"the setting {changed} while an adapter was being trained; images with it are others. Set it back and "
                f"go on"
            )
        return model


class WebUIImageMaker:
    """Makes images with the checkpoint and settings that are chosen when it is made; others are an error later.

    Its methods are those of ``lib_gie.training.image_maker``. ``width``, ``height``: in pixels. ``turn``: stands
    around every use of the model. ``alphas_cumprod``: the share of signal at every timestep, float32 [timesteps].
    Raises UnsupportedModelError for a checkpoint that makes no image from a prompt alone.
    """

    def __init__(
        self,
        *,
        sampler: str,
        steps: int,
        cfg: float,
        width: int,
        height: int,
        negative: str = "",
        turn: Turn = take_turn,
    ):
        self._turn = turn
        with turn():  # in a turn no other request has overridden settings or the checkpoint
            self._chosen = ChosenCheckpoint(shared.sd_model)
            self.alphas_cumprod = HOST.alphas_cumprod(shared.sd_model).float().cpu()  # [timesteps]
        self.base, self.name, self.weights = self._chosen.base, self._chosen.name, self._chosen.weights
        self.sampler, self.steps, self.cfg = sampler, steps, cfg
        self.width, self.height, self.negative = width, height, negative
        self._size = width, height
        self.latent_size = (height // 8, width // 8)
        self.conditions = {"clip_skip": self._chosen.clip_skip, "cfg": cfg}
        self.description = (
            f"{self._chosen.hash}, {sampler}, {steps} steps, CFG {cfg:g}, {width}x{height}, negative {negative!r}, "
            f"{self._chosen.description}"
        )

    def automatic_text(self, concept: str) -> str:
        """Say which adapter Automatic takes for the concept on this checkpoint."""
        with self._turn():
            return automatic_text([Concept(concept)], self._chosen.model())

    def tokens(self, concept: str) -> list[str]:
        """Return the concept's own tokens."""
        return split_tokens(concept, self._chosen.model())[1]

    def make(self, prompts: Sequence[str], seeds: Sequence[int], concept: str, scales: torch.Tensor) -> Made:
        """Make one image per prompt, seed and scale w (float32 [B]).

        Raises BatchStoppedError where a button of the WebUI has stopped the batch, ErasureError where checkpoint or
        settings are others than at the start.
        """
        images: dict[int, torch.Tensor] = {}
        latents: dict[int, torch.Tensor] = {}
        for numbers in self._groups(prompts, scales.tolist()):
            own = ([prompts[number] for number in numbers], [seeds[number] for number in numbers])
            made = self._make(*own, concept, scales[numbers])
            images |= zip(numbers, made.images, strict=True)
            latents |= zip(numbers, made.latents, strict=True)
        return Made(_in_order(images), _in_order(latents))

    def _groups(self, prompts: Sequence[str], scales: Sequence[float] | None = None) -> list[list[int]]:
        with self._turn():
            return groups(prompts, self._chosen.model(), scales)

    def _make(self, prompts: list[str], seeds: list[int], concept: str, scales: torch.Tensor) -> Made:
        """Make the images of prompts that one batch can be made of."""
        with self._turn(), _last_prompt_kept():
            p = self._processing(prompts, seeds)
            if bool((scales != 0).any()):
                give_plan(p, _at(concept, scales.repeat_interleave(parts_of(prompts[0]))))
            latents = _keep_latents(p)
            images = processing.process_images(p).images
            if shared.state.interrupted or shared.state.skipped or len(images) != len(prompts):
                raise BatchStoppedError("the batch was stopped")
            return Made(_pixels(images), torch.cat(latents).float().cpu())

    def _processing(self, prompts: list[str], seeds: list[int]) -> Any:
        return processing.StableDiffusionProcessingTxt2Img(
            sd_model=self._chosen.model(), prompt=prompts, negative_prompt=self.negative, seed=seeds, subseed=seeds,
            sampler_name=self.sampler, steps=self.steps, cfg_scale=self.cfg, width=self.width, height=self.height,
            batch_size=len(prompts), n_iter=1, do_not_save_samples=True, do_not_save_grid=True,
        )  # fmt: skip

    def read(self, prompts: Sequence[str], concepts: Sequence[str], readings: Sequence[Reading]) -> list[torch.Tensor]:
        """Return what adapters with these readings would see, for each concept float32 [B, inputs, n].

        Where AND joins a prompt's parts, it is what they see of the part with the most attention to the concept.
        """
        found: list[dict[int, torch.Tensor]] = [{} for _ in concepts]
        for group in self._groups(prompts):
            for start in range(0, len(group), _ROWS):
                numbers = group[start : start + _ROWS]
                read = self._read([prompts[number] for number in numbers], concepts, readings)
                for values, own in zip(found, read, strict=True):
                    values |= zip(numbers, own, strict=True)
        return [_in_order(values) for values in found]

    def _read(
        self, prompts: list[str], concepts: Sequence[str], readings: Sequence[Reading]
    ) -> list[list[torch.Tensor]]:
        """Read prompts that one batch can be made of: for each concept and prompt float32 [inputs, n]."""
        with self._as_for(prompts[0]) as model:
            encoded = [encode_concept(Concept(text), model) for text in concepts]
            given = prompted(prompts, model, self.sampler, self.steps, (self.width, self.height))
            firsts = range(0, given.rows, _ROWS)
            read = [_read_rows(model, encoded, readings, given, first, self._size) for first in firsts]
            _, heads = family_and_heads(unet_of(model))
        rows = [torch.cat(parts).float() for parts in zip(*read, strict=True)]  # for each concept [R, inputs, n]
        count = readings[0].count(heads)  # inputs of the attention, which come first
        return [[own[of][own[of, :count].sum((1, 2)).argmax()] for of in given.of] for own in rows]

    @contextmanager
    def _as_for(self, prompt: str) -> Iterator[Any]:
        """Yield the model in a turn of the queue, as it is while images of a prompt are sampled."""
        with self._turn(), torch.no_grad():
            model = self._chosen.model()
            with as_for(prompt, self._processing([prompt], [0]), model):
                yield model

    def as_in(self, text: str, prompt: str) -> str:
        """Return the text with the extra networks that a prompt names."""
        return text + networks_in(prompt)

    @property
    def predicts_velocity(self) -> bool:
        """Whether the UNet's output is the velocity."""
        return HOST.predicts_velocity(self._chosen.model())

    def predict(
        self,
        latents: torch.Tensor,
        timesteps: torch.Tensor,
        texts: Sequence[str],
        concept: str = "",
        scales: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Return the UNet's output for rows that are all conditional, float32 [B, 4, h, w]; see Predictor."""
        found: dict[int, torch.Tensor] = {}
        for group in self._groups(texts):
            for start in range(0, len(group), _ROWS):
                numbers = group[start : start + _ROWS]
                own = [texts[number] for number in numbers]
                with self._as_for(own[0]) as model:
                    erased = None if scales is None else encode_concept(Concept(concept), model)
                    chosen = None if scales is None else scales[numbers]
                    rows = latents[numbers], timesteps[numbers]
                    found |= zip(numbers, _predict_rows(model, rows, own, erased, chosen, self._size), strict=True)
        return _in_order(found)


def _at(concept: str, scales: torch.Tensor) -> Plan:
    """Return the plan that erases a concept from rows at these scales, float32 [B * parts]."""
    request = Request((Concept(concept),), adapter=FIXED)
    return Plan(request, (GivenScales(scales),), (ScaleSource(None, None, -1.0),))


def _predict_rows(
    model: Any,
    given: tuple[torch.Tensor, torch.Tensor],
    texts: Sequence[str],
    erased: EncodedConcept | None,
    scales: torch.Tensor | None,
    size: Size,
) -> torch.Tensor:
    """Return the UNet's output for latents and timesteps under texts with the same extra networks: [R, 4, h, w]."""
    latents, timesteps = (part.to(devices.device) for part in given)  # [R, 4, h, w], [R]
    plain = [without_networks(text) for text in texts]
    order = list(dict.fromkeys(plain))
    chosen = [order.index(text) for text in plain]
    rows = {name: value[chosen] for name, value in _encode(model, order, size).items()}  # each [R, ...]
    inputs = with_picture(latents.to(HOST.unet_dtype(model)), blank_picture(model, _latents(size)))  # [R, 4 or 9, h, w]
    unet = callable_unet(model, inputs)
    hooks = nullcontext() if erased is None or scales is None else erasing(unet, erased, scales)
    with hooks, devices.autocast():
        output: torch.Tensor = unet(inputs, timesteps, **rows)
    return output.float().cpu()


def _pixels(images: Sequence[Image.Image]) -> torch.Tensor:
    """Return pictures as float32 [B, 3, H, W], 0 to 1."""
    pixels = np.stack([np.asarray(image.convert("RGB"), dtype=np.float32) for image in images])  # [B, H, W, 3]
    return torch.from_numpy(pixels / 255).permute(0, 3, 1, 2)


def _in_order(by_number: dict[int, torch.Tensor]) -> torch.Tensor:
    """Stack the tensors of all prompts, in the prompts' order."""
    return torch.stack([by_number[number] for number in range(len(by_number))])


def _read_rows(
    model: Any, encoded: list[EncodedConcept], readings: Sequence[Reading], given: Prompted, first: int, size: Size
) -> list[torch.Tensor]:
    """Read at most _ROWS rows from the first on: for each concept [R, inputs, n]."""
    own = {name: value[first : first + _ROWS] for name, value in given.arguments.items()}  # each [R, ...]
    states = own["context"]  # [R, L, D]
    shape = (len(states), LATENT_CHANNELS, *_latents(size))
    latents = torch.zeros(shape, device=states.device, dtype=states.dtype)  # [R, 4, h, w]
    timesteps = torch.full((len(states),), LAST_TIMESTEP, device=states.device)  # [R]
    args = with_picture(latents, blank_picture(model, _latents(size))), timesteps
    with devices.autocast():
        return read_inputs(callable_unet(model, args[0]), encoded, readings, args, own)


def _latents(size: Size) -> tuple[int, int]:
    """Return height and width of the latents of an image."""
    return size[1] // 8, size[0] // 8


def _encode(model: Any, texts: Sequence[str], size: Size) -> dict[str, torch.Tensor]:
    """Return what the UNet is given by name for these texts, as the WebUI makes it, emphasis included.

    ``context``: text states [B, L, D]; of SDXL also ``y``: pooled text and sizes [B, A].
    """
    batch = prompt_parser.SdConditioning(texts, width=size[0], height=size[1])
    HOST.bring_text_encoder(model)
    with torch.no_grad(), devices.autocast():
        return unet_arguments(model.get_learned_conditioning(batch), model)


def _keep_latents(p: Any) -> list[torch.Tensor]:
    """Return a list that ``p.sample`` will fill with the batch's latents [B, 4, h, w]."""
    kept, inner = [], p.sample

    def sample(*args: Any, **kwargs: Any) -> Any:
        result = inner(*args, **kwargs)
        kept.append(result)
        return result

    p.sample = sample
    return kept
