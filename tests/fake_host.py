"""The least of the WebUI that lib_gie/hosts/webui imports, around a real ldm UNet and the CFG denoiser's calls."""

from __future__ import annotations

import re
import sys
import types
from contextlib import nullcontext
from dataclasses import dataclass, field
from types import SimpleNamespace

import torch
from PIL import Image
from tiny import CONTEXT_WIDTH, build_ldm

LENGTH = 77


class TextEncoder(torch.nn.Module):
    """States that depend on the token, its position and one weight."""

    id_start, id_end = 0, 1
    tokenizer = SimpleNamespace(convert_ids_to_tokens=lambda ids: [f"<{number}>" for number in ids])

    def __init__(self, width: int = CONTEXT_WIDTH):
        super().__init__()
        self.width = width
        self.weight = torch.nn.Parameter(torch.ones(()))
        self.hijack = SimpleNamespace(fixes=None)
        self.encoded: list[list[int]] = []

    def tokenize(self, texts):
        return [[2 + sum(map(ord, word)) for word in text.split()] for text in texts]

    def process_tokens(self, rows, multipliers):
        self.encoded += rows
        states = []
        for row in rows:
            generators = [torch.Generator().manual_seed(1000 * place + number) for place, number in enumerate(row)]
            states.append(torch.stack([torch.randn(self.width, generator=g) for g in generators]))  # [L, D]
        return torch.stack(states) * self.weight  # [B, L, D]


class Conditioner(torch.nn.Module):
    """SDXL's: two text encoders and what embeds a size."""

    def __init__(self):
        super().__init__()
        first, second = TextEncoder(8), TextEncoder(CONTEXT_WIDTH - 8)
        second.tokenize = lambda texts: [[3 * number for number in row] for row in first.tokenize(texts)]
        self.embedders = torch.nn.ModuleList([first, second, torch.nn.Identity()])

    def tokenize(self, texts):
        return self.embedders[0].tokenize(texts)


def make_model(name: str = "tiny") -> SimpleNamespace:
    return SimpleNamespace(
        model=SimpleNamespace(diffusion_model=build_ldm().module),
        cond_stage_model=TextEncoder(),
        sd_checkpoint_info=SimpleNamespace(name_for_extra=name),
    )


@dataclass
class Sampling:
    """How the fake denoiser goes about a step: the ways that were recorded from the WebUI."""

    steps: int = 2
    parts: tuple[tuple[float, ...], ...] = ((1.0,), (1.0,))  # weights of the AND parts, per image
    cond_scale: float = 4.0
    split: tuple[int, ...] | None = None  # rows of each UNet call; None: one call for all
    skip_uncond: frozenset[int] = frozenset()  # steps in which the unconditional rows are left out
    seed: int = 0
    tiles: int = 1  # UNet calls for each of the denoiser's, as Tiled Diffusion makes them
    s_min_uncond: float = 0.0  # NGMS
    image_cfg_scale: float | None = None  # of a model that edits: then each image has two rows without the prompt

    @property
    def unconditional(self) -> int:
        return len(self.parts) * (1 if self.image_cfg_scale in (None, 1.0) else 2)

    @property
    def conditional(self) -> int:
        return sum(map(len, self.parts))


class InnerModel(torch.nn.Module):
    """What the denoiser calls the UNet through."""

    def __init__(self, host):
        super().__init__()
        self.host = host

    def forward(self, x, timesteps, context):
        return self.host.shared.sd_model.model.diffusion_model(x, timesteps, context=context)


class Tiler:
    """Tiled Diffusion's method: takes the place of the inner model's forward, and calls that for two tiles at once."""

    __module__ = "tile_methods.multidiffusion"

    def __init__(self, inner, tiles: int):
        self.original, self.tiles = inner.forward, tiles
        inner.forward = self.forward

    def forward(self, x, timesteps, context):
        outputs = []
        for first in range(0, self.tiles, 2):
            together = range(first, min(first + 2, self.tiles))
            latents = torch.cat([x + 0.1 * tile for tile in together])  # [tiles*B, 4, 8, 8]
            count = len(together)
            outputs.append(self.original(latents, timesteps.repeat(count), context.repeat(count, 1, 1)))
        return torch.cat(outputs).unflatten(0, (self.tiles, len(x))).mean(0)  # [B, 4, 8, 8]


class Denoiser:
    """CFGDenoiser as far as it matters: announces a step through the callbacks, then calls the UNet."""

    def __init__(self, host, p, sampling: Sampling):
        self.host, self.p, self.sampling = host, p, sampling
        self.step, self.total_steps, self.cond_scale_miltiplier = 0, sampling.steps, 1.0
        self.image_cfg_scale = sampling.image_cfg_scale
        batch = [[SimpleNamespace(weight=weight) for weight in image] for image in sampling.parts]
        extra = {
            "cond": SimpleNamespace(batch=batch), "cond_scale": sampling.cond_scale,
            "s_min_uncond": sampling.s_min_uncond,
        }  # fmt: skip
        self.sampler = SimpleNamespace(sampler_extra_args=extra)
        self.inner_model = InnerModel(host)
        if sampling.tiles > 1:
            Tiler(self.inner_model, sampling.tiles)

    def __call__(self, x):
        sampling = self.sampling
        total = sampling.conditional + sampling.unconditional
        generator = torch.Generator().manual_seed(sampling.seed)
        context = torch.randn(total, LENGTH, CONTEXT_WIDTH, generator=generator)  # [rows, L, D]
        text_cond, text_uncond = context[: sampling.conditional], context[sampling.conditional :][: len(x)]
        context = torch.cat([text_cond, *[text_uncond] * (sampling.unconditional // len(x))])  # [rows, L, D]
        images = [image for image, parts in enumerate(sampling.parts) for _ in parts]
        rows = torch.cat([x[images], *[x] * (sampling.unconditional // len(x))])  # [rows, 4, 8, 8]
        self.host.announce(SimpleNamespace(x=rows, denoiser=self, text_cond=text_cond, text_uncond=text_uncond))
        if self.step in sampling.skip_uncond:
            rows, context = rows[: sampling.conditional], context[: sampling.conditional]
        timesteps = torch.full((len(rows),), 500)
        outputs, first = [], 0
        for size in sampling.split or (len(rows),):
            chosen = slice(first, first + size)
            outputs.append(self.inner_model(rows[chosen], timesteps[chosen], context[chosen]))
            first += size
        self.step += 1
        output = torch.cat(outputs)  # [rows, 4, 8, 8]
        self.host.outputs.append(output)
        if hasattr(self.host, "preview"):
            self.host.preview(output, len(x))
        return x - 0.1 * output[: len(x)]


class Runner:
    """ScriptRunner: always-on scripts and the selected one."""

    def __init__(self, *scripts):
        self.alwayson_scripts = list(scripts)
        self.selected = None

    def run(self, p, *args):
        return self.selected(p) if self.selected else None

    def _each(self, name, p, *args, **kwargs):
        """The WebUI's way with scripts: exceptions are reported and forgotten."""
        for script in self.alwayson_scripts:
            try:
                if hasattr(script, name):
                    getattr(script, name)(p, *args, **kwargs)
            except Exception as error:
                sys.modules["modules.errors"].report(f"Error running {name}: {error}", exc_info=True)

    def post_sample(self, p, sampled):
        self._each("post_sample", p, sampled)

    def postprocess_batch(self, p, images, **kwargs):
        self._each("postprocess_batch", p, images=images, **kwargs)

    def postprocess_batch_list(self, p, batch, **kwargs):
        self._each("postprocess_batch_list", p, batch, **kwargs)

    def postprocess_image(self, p, shown):
        self._each("postprocess_image", p, shown)

    def postprocess_maskoverlay(self, p, surrounded):
        self._each("postprocess_maskoverlay", p, surrounded)

    def postprocess_image_after_composite(self, p, shown):
        self._each("postprocess_image_after_composite", p, shown)

    def postprocess(self, p, processed):
        self._each("postprocess", p, processed)


class ImageRNG:
    """Noise that goes on with each call, from the seeds."""

    def __init__(self, shape, seeds, **variation):
        self.shape, self.seeds = shape, seeds
        self.subseeds, self.subseed_strength = variation.get("subseeds"), variation.get("subseed_strength", 0.0)
        self.seed_resize_from_h = self.seed_resize_from_w = 0
        self._generators = [torch.Generator().manual_seed(seed) for seed in seeds]

    def next(self):
        return torch.stack([torch.randn(self.shape, generator=generator) for generator in self._generators])


@dataclass
class Processing:
    """StableDiffusionProcessing as far as it matters."""

    host: object
    args: list = field(default_factory=list)
    sampling: Sampling = field(default_factory=Sampling)
    n_iter: int = 1
    scripts: Runner | None = None
    enable_hr: bool = False
    is_hr_pass: bool = False
    before_sampling: object = None
    after_image: object = None
    at_start: object = None
    pictures: bool = False  # whether the job's images are pictures, as the WebUI's are, or the latents themselves
    extra_network_data = {}  # by name, as the WebUI's prompt parser leaves it
    width = height = 64
    cfg_scale = 4.0

    def __post_init__(self):
        self.extra_generation_params = {}
        self.comments = {}
        self.do_not_save_samples = self.disable_extra_networks = self.restore_faces = self.do_not_save_grid = False
        self.color_corrections = self.paste_to = None
        self.sd_model, self.outpath_samples = self.host.shared.sd_model, "samples"
        self.batch_size = len(self.sampling.parts)
        self.all_seeds = list(range(self.n_iter * self.batch_size))
        self.all_prompts, self.all_subseeds = ["a knife"] * len(self.all_seeds), self.all_seeds
        self.script_args = [0, *self.args]
        if self.scripts is None:
            self.scripts = Runner(SimpleNamespace(erases_concepts=True, args_from=1, args_to=1 + len(self.args)))
        self.scripts.__class__ = self.host.runner_class  # the one that is wrapped

    def sample(self, **kwargs):
        if self.before_sampling:
            self.before_sampling(self)
        x = self.one_pass(self.rng.next())
        if self.enable_hr:
            self.is_hr_pass = True
            x = self.one_pass(x)
            self.is_hr_pass = False
        return x

    def comment(self, text):
        self.comments[text] = 1

    def save_samples(self):
        return not self.do_not_save_samples

    def one_pass(self, x):
        denoiser = Denoiser(self.host, self, self.sampling)
        for _ in range(self.sampling.steps):
            if self.host.shared.state.interrupted or self.host.shared.state.skipped:
                break
            x = denoiser(x)
        return x


def process_images_inner(p):
    """The job's loop: sample each batch, have scripts go over it, write each image's infotext while it is current."""
    images, infotexts, state = [], [], p.host.shared.state
    if p.at_start:
        p.at_start(p)
    for iteration in range(p.n_iter):
        p.iteration, first = iteration, iteration * p.batch_size
        state.skipped = False
        if state.interrupted or state.stopping_generation:
            break
        p.seeds = p.subseeds = p.all_seeds[first : first + p.batch_size]
        p.prompts = p.negative_prompts = p.all_prompts[first : first + p.batch_size]
        p.rng = ImageRNG((4, 8, 8), p.seeds)
        with torch.no_grad():
            samples = p.sample()
        finished = finish_batch(p, samples)
        for index, picture in enumerate(finished):
            infotexts.append(infotext(p, index, p.seeds))
            if p.after_image:
                p.after_image(p)
            images.append(picture if p.pictures else samples[index])
    if not images and not p.do_not_save_grid and not p.host.shared.opts.grid_only_if_multiple:
        raise ZeroDivisionError("a grid of no images")
    params = dict(p.extra_generation_params)
    texts = infotexts or [infotext(p, 0, p.all_seeds)]
    done = SimpleNamespace(images=images, infotexts=texts, info=texts[0], extra_generation_params=params, comments="")
    if p.scripts is not None:
        p.scripts.postprocess(p, done)
    return done


def finish_batch(p, samples):
    """Pictures of samples, all scripts' doings included, as a generator: the host's loop goes on with each."""
    if p.scripts is None:
        for image in decoded(samples):
            yield picture_of(image)
        return
    sampled = Box(samples)
    p.scripts.post_sample(p, sampled)
    images = decoded(sampled.samples)
    p.scripts.postprocess_batch(p, images, batch_number=p.iteration)
    batch = Box(list(images))
    p.scripts.postprocess_batch_list(p, batch, batch_number=p.iteration)
    for index, image in enumerate(batch.images):
        p.batch_index = index
        shown = Box(picture_of(image))
        p.scripts.postprocess_image(p, shown)
        p.scripts.postprocess_maskoverlay(p, SimpleNamespace(mask_for_overlay=None, overlay_image=None, index=index))
        p.scripts.postprocess_image_after_composite(p, shown)
        yield shown.image


class MaskOverlay(SimpleNamespace):
    def __init__(self, index, mask_for_overlay, overlay_image):
        super().__init__(index=index, mask_for_overlay=mask_for_overlay, overlay_image=overlay_image)


class Box(SimpleNamespace):
    """What the WebUI hands to scripts: samples, a batch's images or a picture."""

    def __init__(self, held):
        super().__init__(samples=held, images=held, image=held)


def decoded(samples):
    return ((samples[:, :3] + 1) / 2).clamp(0, 1)  # [B, 3, 8, 8], 0 to 1


def picture_of(image):
    """A picture of an image [3, H, W], 0 to 1."""
    return Image.fromarray((255 * image.numpy()).astype("uint8").transpose(1, 2, 0))


def infotext(p, index, all_seeds, use_main_prompt=False) -> dict:
    call = {"p": p, "index": index, "all_seeds": all_seeds, "use_main_prompt": use_main_prompt, "iteration": 0}
    params = {key: value(**call) if callable(value) else value for key, value in p.extra_generation_params.items()}
    return {key: value for key, value in params.items() if value is not None}


def create_infotext(
    p, prompts, seeds, subseeds, iteration=0, position_in_batch=0, index=None, all_negative_prompts=None
):
    return infotext(p, position_in_batch + iteration * p.batch_size if index is None else index, seeds)


def apply_overlay(picture, paste_to, overlay):
    return picture, picture


def parse_emphasis(text):
    """The WebUI's (text:weight), without its other syntaxes."""
    parts = re.split(r"\(([^:()]*):([0-9.]+)\)", text)
    plain = [[part, 1.0] for part in parts[::3] if part]
    return plain + [[part, float(weight)] for part, weight in zip(parts[1::3], parts[2::3], strict=True)]


class Host:
    """The fake, installed under the name ``modules``."""

    def __init__(self, monkeypatch, tmp_path):
        self.outputs: list[torch.Tensor] = []
        self.errors: list[BaseException] = []
        self.callbacks: list = []
        self.reported: list[str] = []
        self.saved: list[dict] = []
        self.previews: list[torch.Tensor] = []
        state = SimpleNamespace(interrupted=False, skipped=False, stopping_generation=False, job_count=0)
        state.nextjob = lambda: None
        self.shared = self._module(
            "shared",
            sd_model=make_model(),
            state=state,
            opts=SimpleNamespace(
                data_labels={},
                data={},
                gie_calibrate=False,
                enable_pnginfo=True,
                overlay_inpaint=True,
                samples_format="png",
                samples_save=True,
                live_preview_content="Prompt",
                grid_only_if_multiple=True,
            ),
            device="cpu",
            cmd_opts=SimpleNamespace(gie_enforce=None, gie_enforce_calibrated="off"),
            loaded_hypernetworks=[],
        )
        self.processing = self._module(
            "processing",
            process_images_inner=process_images_inner,
            create_infotext=create_infotext,
            apply_overlay=apply_overlay,
            decode_latent_batch=lambda model, samples, **options: samples[:, :3],
        )
        parser = self._module(
            "prompt_parser",
            get_learned_conditioning_prompt_schedules=lambda prompts, *steps, **way: [[[1, text]] for text in prompts],
            get_multicond_learned_conditioning=lambda model, prompts, *args: SimpleNamespace(prompts=prompts),
            parse_prompt_attention=parse_emphasis,
        )
        hooks = {name: value for name, value in vars(Runner).items() if name == "run" or name.startswith("post")}
        runner = type("ScriptRunner", (Runner,), hooks)
        self.modules = {
            "modules.prompt_parser": parser,
            "modules": types.ModuleType("modules"),
            "modules.shared": self.shared,
            "modules.processing": self.processing,
            "modules.scripts": self._module(
                "scripts",
                ScriptRunner=runner,
                Script=object,
                PostSampleArgs=Box,
                PostprocessBatchListArgs=Box,
                PostprocessImageArgs=Box,
                PostProcessMaskOverlayArgs=MaskOverlay,
            ),
            "modules.script_callbacks": self._module("script_callbacks", callback_map={}),
            "modules.sd_samplers_common": self._module("sd_samplers_common", store_latent=self._store_latent),
            "modules.sd_samplers_cfg_denoiser": self._module("sd_samplers_cfg_denoiser", opts=self.shared.opts),
            "modules.devices": self._module(
                "devices", autocast=nullcontext, without_autocast=nullcontext, cpu="cpu", dtype=torch.float32
            ),
            "modules.sd_models": self._module(
                "sd_models",
                model_data=SimpleNamespace(sd_model=self.shared.sd_model),
                reload_model_weights=lambda: None,
                apply_alpha_schedule_override=lambda model, p: None,
            ),
            "modules.sd_hijack": self._module("sd_hijack", model_hijack=SimpleNamespace()),
            "modules.extra_networks": self._module("extra_networks", activate=lambda p, data: None),
            "modules.rng": self._module("rng", ImageRNG=ImageRNG),
            "modules.errors": self._module("errors", report=lambda text, exc_info: self.reported.append(text)),
            "modules.images": self._module("images", save_image=self._save_image),
            "modules.paths_internal": self._module("paths_internal", models_path=str(tmp_path)),
        }
        for name, module in self.modules.items():
            monkeypatch.setitem(sys.modules, name, module)
            if "." in name:
                setattr(self.modules["modules"], name.rpartition(".")[2], module)
        self.runner_class = runner

    def preview(self, output, images):
        """As the denoiser does after each step, with ``output`` [rows, 4, 8, 8]."""
        negative = self.modules["modules.sd_samplers_cfg_denoiser"].opts.live_preview_content == "Negative prompt"
        latent = output[-images:] if negative else output[:images]
        self.modules["modules.sd_samplers_common"].store_latent(latent)

    def _store_latent(self, latent):
        self.previews.append(latent)

    def _save_image(self, picture, folder, basename, seed, prompt, extension, **options):
        self.saved.append({"picture": picture, "folder": folder, "seed": seed, **options})
        picture.already_saved_as = f"{folder}/{seed}{options['suffix']}.{extension}"
        return picture.already_saved_as, None

    @staticmethod
    def _module(name, **attributes):
        module = types.ModuleType(f"modules.{name}")
        vars(module).update(attributes)
        return module

    def announce(self, params):
        """The WebUI's way with callbacks: exceptions are reported and forgotten."""
        for callback in self.callbacks:
            try:
                callback(params)
            except Exception as error:
                self.errors.append(error)

    def process(self, args=(), **options):
        p = Processing(self, list(args), **options)
        self.outputs.clear()
        return p, self.processing.process_images_inner(p)
