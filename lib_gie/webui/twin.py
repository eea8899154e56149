"""The same images without what the user wants erased, sampled before the erased ones from the same noise."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from modules import devices, extra_networks, processing, rng, sd_models, shared
from PIL import Image

from ..randomness import undrawn
from . import forge
from .others import as_before


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
    """The WebUI saves images on the way (before Hires. fix) with the infotext of the erased ones."""
    before = p.do_not_save_samples
    p.do_not_save_samples = True
    try:
        yield
    finally:
        p.do_not_save_samples = before


def _as_at_the_batchs_start(p: Any) -> None:
    """Sampling may have left another checkpoint (refiner, Hires. fix) or that pass's LoRAs behind."""
    getattr(sd_models, "forge_model_reload", sd_models.reload_model_weights)()
    forge.as_loaded(p.sd_model)
    if not p.disable_extra_networks:
        with devices.autocast():
            extra_networks.activate(p, p.extra_network_data)
    forge.with_networks(p.sd_model)
    sd_models.apply_alpha_schedule_override(p.sd_model, p)


def sample_twin(p: Any, sample: Callable[[], Any], show: bool) -> list[Image.Image]:
    """Call ``sample`` once more than the WebUI does, and leave everything as it was before.

    Returns the finished pictures where they are to be shown, otherwise none.
    """
    noise = _same_noise(p.rng)
    if shared.state.job_count > 0:
        shared.state.job_count += 1
    with undrawn(), as_before(p), _nothing_saved(p):
        samples = sample()
        pictures = _pictures(p, samples) if show and not shared.state.interrupted else []
    p.rng = noise
    _as_at_the_batchs_start(p)
    shared.state.nextjob()
    return pictures


# -- finished as the WebUI finishes its own ------------------------------------------------


def _pictures(p: Any, samples: Any) -> list[Image.Image]:
    if not getattr(samples, "already_decoded", False):
        with devices.without_autocast():
            samples = processing.decode_latent_batch(
                p.sd_model, samples, target_device=devices.cpu, check_for_nans=True
            )
    decoded = torch.stack(list(samples)).float()  # [B, 3, H, W]
    decoded = torch.clamp((decoded + 1.0) / 2.0, min=0.0, max=1.0)
    return [_finished(p, image, number) for number, image in enumerate(decoded)]


def _finished(p: Any, image: torch.Tensor, number: int) -> Image.Image:
    """One image, float32 [3, H, W], 0 to 1, with faces, colours and what surrounds it as the erased one gets them."""
    array = (255.0 * np.moveaxis(image.cpu().numpy(), 0, 2)).astype(np.uint8)  # [H, W, 3]
    if p.restore_faces:
        from modules import face_restoration

        array = face_restoration.restore_faces(array)
    picture = Image.fromarray(array)
    corrections, overlays = p.color_corrections, getattr(p, "overlay_images", None)
    if corrections is not None and number < len(corrections):
        picture = processing.apply_color_correction(corrections[number], picture)
    if overlays is None or number >= len(overlays) or not shared.opts.overlay_inpaint:
        return processing.apply_overlay(picture, p.paste_to, None)[0]
    return processing.apply_overlay(picture, p.paste_to, overlays[number])[0]
