"""Part of docs/COMPATIBILITY.md: each way of generating, with the extension off, at scale 0 and on."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from client import SCALE, Answer, RequestFailedError
from PIL import Image, ImageDraw

OFF, ZERO, ON = [False, "knife"], [True, "knife", "Fixed scale", 1, 0], [True, "knife", "Fixed scale", 1, SCALE]
LONG = "a cat and a knife, " + ", ".join(["a picture of a cat with a knife on a blue background"] * 8)


def _png(image: Image.Image) -> str:
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def _drawn() -> str:
    image = Image.new("RGB", (64, 64), (95, 150, 235))
    ImageDraw.Draw(image).ellipse((16, 16, 40, 40), fill=(200, 60, 60))
    return _png(image)


def _mask() -> str:
    image = Image.new("L", (64, 64), 0)
    ImageDraw.Draw(image).rectangle((0, 0, 40, 63), fill=255)
    return _png(image)


def settings(**options) -> dict:
    return {"override_settings": options}


IMG2IMG = {"route": "img2img", "init_images": [_drawn()], "denoising_strength": 0.8}
LARGE = {"width": 256, "height": 256, "steps": 3}  # smaller images are one tile
HIRES = {"enable_hr": True, "hr_scale": 2, "denoising_strength": 0.7, "hr_upscaler": "Latent"}
SAMPLERS = (
    "DPM++ 2M", "DPM++ SDE", "DPM++ 2M SDE", "DPM++ 2M SDE Heun", "DPM++ 2S a", "DPM++ 3M SDE", "Euler a", "Euler",
    "LMS", "Heun", "DPM2", "DPM2 a", "DPM fast", "DPM adaptive", "Restart", "DDIM", "DDIM CFG++", "PLMS", "UniPC",
    "LCM",
)  # fmt: skip
ATTENTION = (
    "sdp - scaled dot product", "sdp-no-mem - scaled dot product without memory efficient attention",
    "sub-quadratic", "V1", "InvokeAI", "Doggettx", "None",
)  # fmt: skip

ROWS: dict[str, dict] = {
    "plain": {},
    "batch size 3, count 2": {"batch_size": 3, "n_iter": 2},
    "AND": {"prompt": "a cat AND a knife :0.8", "batch_size": 2},
    "AND, negative weight": {"prompt": "a cat and a knife AND a dog :-0.3"},
    "prompt editing": {"prompt": "a [dog:cat:0.5] and a [fish|knife]"},
    "emphasis": {"prompt": "a (cat:1.2) and a [knife]"},
    "long prompt": {"prompt": LONG},
    "long negative prompt": {"negative_prompt": LONG},
    "long prompt, padded": {"prompt": LONG, **settings(pad_cond_uncond=True)},
    "long negative prompt, padded as in 1.5": {"negative_prompt": LONG, **settings(pad_cond_uncond_v0=True)},
    "batch_cond_uncond off": {"batch_size": 2, **settings(batch_cond_uncond=False)},
    "batch_cond_uncond off, AND": {"prompt": "a cat AND a knife", "batch_size": 2, **settings(batch_cond_uncond=False)},
    "NGMS": {"s_min_uncond": 4.0},
    "NGMS, all steps": {"s_min_uncond": 4.0, **settings(s_min_uncond_all=True)},
    "skip_early_cond": settings(skip_early_cond=0.4),
    "CFG 1": {"cfg_scale": 1},
    "CFG 12": {"cfg_scale": 12},
    "hires fix, latent": HIRES,
    "hires fix, image": {**HIRES, "hr_upscaler": "Lanczos"},
    "hires fix, own prompt": {
        **HIRES,
        "hr_prompt": "a dog and a knife",
        "hr_negative_prompt": "a rose",
        "batch_size": 2,
    },
    "hires fix, other checkpoint": {**HIRES, "hr_checkpoint_name": "other-demo"},
    "img2img": IMG2IMG,
    "img2img, batch": {**IMG2IMG, "batch_size": 2},
    "inpaint": {**IMG2IMG, "mask": _mask(), "inpainting_fill": 1},
    "inpaint, only masked": {**IMG2IMG, "mask": _mask(), "inpaint_full_res": True},
    "refiner, other config": {"refiner_checkpoint": "other-demo", "refiner_switch_at": 0.5},
    "LoRA": {"prompt": "a cat and a knife <lora:gietest:1>"},
    "LoRA, functional": {"prompt": "a cat and a knife <lora:gietest:1>", **settings(lora_functional=True)},
    "textual inversion": {"prompt": "a cat and a knife, gieembedding"},
    "hypernetwork": {"prompt": "a cat and a knife <hypernet:gietest:1>"},
    "token merging": settings(token_merging_ratio=0.5),
    "hypertile": {**LARGE, **settings(hypertile_enable_unet=True, hypertile_max_tile_unet=128)},
    "clip skip": settings(CLIP_stop_at_last_layers=2),
    "tiling": {"tiling": True},
    "variation seed": {"subseed": 3, "subseed_strength": 0.4},
    "live preview of the negative prompt": settings(live_preview_content="Negative prompt"),
    **{f"sampler {name}": {"sampler_name": name, "scheduler": "Automatic"} for name in SAMPLERS},
}
STRONGER = {"emphasis": 1.2**2, **dict.fromkeys(("long prompt", "long prompt, padded"), 9**0.25)}
"""By name of the row: what its prompt's emphasis, or naming the knife nine times, multiplies the scale by."""

ROWS["sampler DDIM CFG++"]["cfg_scale"] = 14  # it divides by 12.5, and below 1 the negative prompt draws


def _ask(webui, row: dict, args) -> Answer:
    if row.get("route") == "img2img":
        # the WebUI encodes the given image with noise from where the request before has left the random numbers
        webui.txt2img(args=args, **row)
    return webui.txt2img(args=args, **row)


def scales(answer, count: int | None = None) -> list[float]:
    """As the infotexts of the first images, with one prompt and one token, say."""
    return [float(text.split("GIE scale: ")[1].split(",")[0]) for text in answer.infotexts[:count]]


@pytest.mark.parametrize("name", ROWS)
def test_row(webui, name):
    """Scale 0 equals off to the bit, on differs and repeats."""
    row = ROWS[name]
    off, zero = _ask(webui, row, OFF), _ask(webui, row, ZERO)
    assert off == zero
    on = _ask(webui, row, ON)
    assert not np.array_equal(on.pixels, off.pixels)
    assert _ask(webui, row, ON) == on
    assert scales(on) == pytest.approx([SCALE * STRONGER.get(name, 1.0)] * len(on.infotexts), rel=0.05)
    assert not any("GIE" in text for text in off.infotexts)


PLAIN_OF = {
    **dict.fromkeys(
        (
            "LoRA", "LoRA, functional", "hypernetwork", "token merging", "clip skip", "tiling", "variation seed",
            "refiner, other config", "NGMS", "NGMS, all steps", "skip_early_cond",
        ),
        "plain",
    ),
    "hires fix, other checkpoint": "hires fix, latent",
    "long negative prompt, padded as in 1.5": "long negative prompt",
}  # fmt: skip
"""Rows whose image without erasure differs from another's only if what the row is about really took effect."""


@pytest.mark.parametrize("name", PLAIN_OF)
def test_what_a_row_is_about_takes_effect(webui, name):
    assert _ask(webui, ROWS[name], OFF) != _ask(webui, ROWS[PLAIN_OF[name]], OFF)


def test_textual_inversion_and_hypertile_take_effect(webui):
    assert "gieembedding" in webui.call("embeddings")["loaded"]
    assert _ask(webui, ROWS["hypertile"], OFF) != _ask(webui, LARGE, OFF)


@pytest.mark.parametrize("name", ROWS)
def test_off_is_stock(webui, stock, name):
    """Switched off or left out of the request: the image of a WebUI without the extension."""
    expected = _ask(stock, ROWS[name], None)
    assert _ask(webui, ROWS[name], OFF) == expected
    assert _ask(webui, ROWS[name], None) == expected


@pytest.mark.parametrize("attention", ATTENTION)
def test_attention_optimisations(webui, attention):
    """Whatever computes the attention, the hooks add the same term."""
    expected = webui.txt2img(args=ON)
    before = webui.call("options")["cross_attention_optimization"]
    try:
        webui.call("options", {"cross_attention_optimization": attention})
        assert webui.txt2img(args=OFF) == webui.txt2img(args=ZERO)
        on = webui.txt2img(args=ON)
        assert np.abs(on.pixels.astype(int) - expected.pixels).max() <= 2
    finally:
        webui.call("options", {"cross_attention_optimization": before})


def test_ways_of_splitting_a_step_do_not_matter(webui):
    """Joined and split calls differ in rounding only."""
    joined = webui.txt2img(args=ON, batch_size=2)
    split = webui.txt2img(args=ON, batch_size=2, **settings(batch_cond_uncond=False))
    assert np.abs(joined.pixels.astype(int) - split.pixels).max() <= 2


def test_images_of_a_batch_get_what_their_seeds_get_alone(webui):
    args, prompt = [True, "balloon", "gietest"], "a cat and a dog"  # it names no balloon, so the adapter alone decides
    batch = webui.txt2img(prompt, args, batch_size=3, n_iter=2, seed=11)
    scales = [text.split("GIE scale: ")[1].split(",")[0] for text in batch.infotexts]
    assert len(set(scales)) > 3
    for number, scale in enumerate(scales):
        alone = webui.txt2img(prompt, args, seed=11 + number)
        assert float(alone.infotexts[0].split("GIE scale: ")[1].split(",")[0]) == pytest.approx(float(scale), abs=1e-3)
        assert np.abs(alone.pixels[0].astype(int) - batch.pixels[number]).mean() < 2


@pytest.mark.parametrize("cfg_scale", [0, 0.5])
def test_cfg_scales_at_which_the_negative_prompt_draws(webui, cfg_scale):
    with pytest.raises(RequestFailedError, match="CFG scale"):
        webui.txt2img(args=ON, cfg_scale=cfg_scale)
    assert webui.txt2img(args=OFF, cfg_scale=cfg_scale).images


def test_hires_passes_can_be_chosen(webui):
    def hires(which):
        return webui.txt2img(args=[*ON, 0, 1, "fused", which], **HIRES)

    answers = [webui.txt2img(args=OFF, **HIRES), *map(hires, ("both", "first only", "second only"))]
    assert all(a != b for i, a in enumerate(answers) for b in answers[:i])
    with pytest.raises(RequestFailedError, match="only the second pass"):
        webui.txt2img(args=[*ON, 0, 1, "fused", "second only"])


def test_separate_concept_pass(webui):
    fused, separate = webui.txt2img(args=ON), webui.txt2img(args=[*ON, 0, 1, "separate"])
    assert separate != fused
    assert "GIE concept pass: separate" in separate.infotexts[0]


def test_checkpoints_come_and_go(webui):
    """Another model object, and two kept at once: no event tells of the change back."""
    expected = webui.txt2img(args=ON)
    before = webui.call("options")["sd_checkpoints_limit"]
    try:
        webui.call("options", {"sd_checkpoints_limit": 2})
        for _ in range(2):
            webui.use_checkpoint("other-demo")
            assert webui.txt2img(args=ON) != webui.txt2img(args=OFF)
            webui.use_checkpoint("gie-demo")
            assert webui.txt2img(args=ON) == expected
    finally:
        webui.call("options", {"sd_checkpoints_limit": before})
