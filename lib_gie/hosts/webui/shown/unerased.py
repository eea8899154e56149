"""The images without erasure: the same images, but nothing that the user asks for is erased from them.

They are sampled before the erased ones, from the same noise. They are finished when the erased ones of their batch are,
by all that goes over every image: the host's own steps, and the scripts of other extensions, which may take off or
paint over what must not be seen.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import torch
from modules import devices, extra_networks, processing, rng, scripts, sd_models, shared
from PIL import Image

from lib_gie.errors import ErasureError
from lib_gie.hosts.webui.host.chosen import HOST
from lib_gie.hosts.webui.host.other_extensions import as_before, scripts_as_before
from lib_gie.hosts.webui.request.infotext import ADAPTERS, KEYS, SCALE
from lib_gie.randomness import undrawn

from . import previews
from .afterwards import reported_errors


def _same_noise(source: rng.ImageRNG) -> rng.ImageRNG:
    return rng.ImageRNG(
        source.shape,
        source.seeds,
        subseeds=source.subseeds,
        subseed_strength=source.subseed_strength,
        seed_resize_from_h=source.seed_resize_from_h,
        seed_resize_from_w=source.seed_resize_from_w,
    )


@contextmanager
def _nothing_saved(p: Any) -> Iterator[None]:
    """Keep the WebUI from saving images on the way, as it does before Hires. fix."""
    before = p.do_not_save_samples
    p.do_not_save_samples = True
    try:
        yield
    finally:
        p.do_not_save_samples = before


@contextmanager
def unlabelled(p: Any) -> Iterator[None]:
    """Keep what the user wants erased out of the infotexts that are written within the context."""
    params = p.extra_generation_params
    before = dict(params)
    hidden = [key for key in (*KEYS, SCALE, ADAPTERS) if key in params]
    for key in hidden:
        del params[key]
    try:
        yield
    finally:
        after = {**{key: before[key] for key in before if key in hidden or key in params}, **params}
        params.clear()
        params.update(after)


def _as_at_the_batchs_start(p: Any) -> None:
    """Undo what sampling may have left behind: another checkpoint (refiner, Hires. fix) or that pass's LoRAs."""
    HOST.reload_model(p)
    if not p.disable_extra_networks:
        with devices.autocast():
            extra_networks.activate(p, p.extra_network_data)
    HOST.with_networks(p.sd_model)
    sd_models.apply_alpha_schedule_override(p.sd_model, p)


def sample_unerased(generation: Any, sample: Callable[[], Any], shown: bool) -> Any:
    """Return what ``sample`` makes with nothing of the user's erased; everything is left as it was before.

    The WebUI will call ``sample`` again for the erased images. ``shown``: whether the images are to be seen, also in
    the live previews.
    """
    p = generation.p
    noise = _same_noise(p.rng)
    if shared.state.job_count > 0:
        shared.state.job_count += 1
    with ExitStack() as around:
        for context in (undrawn(), as_before(p), _nothing_saved(p), unlabelled(p), generation.unerased()):
            around.enter_context(context)
        if not shown:
            around.enter_context(previews.hidden())
        samples = generation.sample(sample, unerased=True)
    p.rng = noise
    _as_at_the_batchs_start(p)
    shared.state.nextjob()
    return samples


# -- finishing them as the WebUI does the results ------------------------------------------------


class Drawn:
    """How far the global random numbers have been drawn: Python's, NumPy's and torch's, of every GPU."""

    def __init__(self) -> None:
        self._state, self._array_state, self._tensor_state = random.getstate(), np.random.get_state(), _tensor_state()

    @contextmanager
    def again(self) -> Iterator[None]:
        """Draw from there within the context. Afterwards the numbers go on as if none had been drawn in it."""
        now = Drawn()
        self._set()
        try:
            yield
        finally:
            now._set()

    def _set(self) -> None:
        random.setstate(self._state)
        np.random.set_state(self._array_state)
        own, gpus = self._tensor_state
        torch.set_rng_state(own)
        if gpus:
            torch.cuda.set_rng_state_all(gpus)


def _tensor_state() -> tuple[torch.Tensor, list[torch.Tensor]]:
    return torch.get_rng_state(), torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []


@contextmanager
def _aside(p: Any) -> Iterator[None]:
    """Put ``p`` and the scripts back as they were, with nothing saved and no infotext of ours written."""
    with unlabelled(p), scripts_as_before(p), _nothing_saved(p):
        for name in ("prompts", "negative_prompts", "seeds", "subseeds"):
            setattr(p, name, list(getattr(p, name, None) or ()))
        params = dict(p.extra_generation_params)
        try:
            yield
        finally:
            p.extra_generation_params.clear()
            p.extra_generation_params.update(params)


Finished = tuple[Image.Image, str]
"""A picture and its infotext."""


def finish(p: Any, samples: Any, drawn: Drawn) -> list[Finished]:
    """Return the pictures of samples, made as the WebUI makes them, with everything that scripts do to images.

    ``drawn``: how far the random numbers, which scripts may draw, had come after the sampling. To be called when the
    batch's own images are done. Raises ErasureError where a script failed: the WebUI would go on, and a picture that
    nobody may see could come through.
    """
    with _aside(p), drawn.again(), reported_errors() as reported:
        pictures = _pictures(p, samples)
    if reported:
        raise ErasureError(f"a script of another extension failed on them ({reported[0]}); switch it off")
    return pictures


def _pictures(p: Any, samples: Any) -> list[Finished]:
    """Take each step that the host takes between sampling and showing, in its order."""
    runner = p.scripts
    sampled = scripts.PostSampleArgs(samples)
    runner.post_sample(p, sampled)
    images = _decoded(p, sampled.samples)
    runner.postprocess_batch(p, images, batch_number=p.iteration)
    batch = scripts.PostprocessBatchListArgs(list(images))
    runner.postprocess_batch_list(p, batch, batch_number=p.iteration)
    return [(_finished(p, image, number), _infotext(p, number)) for number, image in enumerate(batch.images)]


def _decoded(p: Any, samples: Any) -> torch.Tensor:
    """Decode samples to float32 [B, 3, H, W], 0 to 1."""
    if not getattr(samples, "already_decoded", False):
        with devices.without_autocast():
            samples = processing.decode_latent_batch(
                p.sd_model, samples, target_device=devices.cpu, check_for_nans=True
            )
    images = torch.stack(list(samples)).float()  # [B, 3, H, W]
    return torch.clamp((images + 1.0) / 2.0, min=0.0, max=1.0)


def _finished(p: Any, image: torch.Tensor, number: int) -> Image.Image:
    """Finish one image, float32 [3, H, W], 0 to 1: restore faces and colours, and paste it into its surroundings."""
    runner, p.batch_index = p.scripts, number
    array = (255.0 * np.moveaxis(image.cpu().numpy(), 0, 2)).astype(np.uint8)  # [H, W, 3]
    if p.restore_faces:
        from modules import face_restoration

        array = face_restoration.restore_faces(array)
    shown = scripts.PostprocessImageArgs(Image.fromarray(array))
    runner.postprocess_image(p, shown)
    mask, overlay = getattr(p, "mask_for_overlay", None), _overlay(p, number)
    surrounded = scripts.PostProcessMaskOverlayArgs(number, mask, overlay)
    runner.postprocess_maskoverlay(p, surrounded)
    if p.color_corrections is not None and number < len(p.color_corrections):
        shown.image = processing.apply_color_correction(p.color_corrections[number], shown.image)
    whole = processing.apply_overlay(shown.image, p.paste_to, surrounded.overlay_image)[0]
    composed = scripts.PostprocessImageArgs(whole)
    runner.postprocess_image_after_composite(p, composed)
    finished: Image.Image = composed.image
    return finished


def _infotext(p: Any, number: int) -> str:
    text: str = processing.create_infotext(
        p, p.prompts, p.seeds, p.subseeds, index=number, all_negative_prompts=p.negative_prompts
    )
    return text


def _overlay(p: Any, number: int) -> Image.Image | None:
    overlays: Sequence[Image.Image] | None = getattr(p, "overlay_images", None)
    if not shared.opts.overlay_inpaint or overlays is None or number >= len(overlays):
        return None
    return overlays[number]
