"""Calibrating on Forge: on its own code (GIE_FORGE_DIR: its checkout; run in its Python), and on a fake elsewhere.

Its own code loads the demo model, once its list of known models has the demo model's widths.
"""

from __future__ import annotations

import importlib
import json
import os
import re
import shutil
import sys
import threading
from contextlib import nullcontext
from pathlib import Path
from types import ModuleType, SimpleNamespace

import not_run
import pytest
import torch
from fake_host import TextEncoder
from test_forge import FORGE, start  # noqa: F401
from tiny import build_ldm

from lib_gie.assets import DEMO_CHECKPOINT
from lib_gie.core.erasure import Erasure, Target
from lib_gie.demo.fixed_scale import default_scale
from lib_gie.demo.sampling_settings import CFG, FAMILY, SIZE, STEPS
from lib_gie.hosts.erased_sampling import ErasedSampling
from lib_gie.hosts.marked_rows import MarkedRows
from lib_gie.randomness import undrawn
from lib_gie.training.calibration import calibrate
from lib_gie.training.calibration.counted import Counted
from lib_gie.training.calibration.presence import read_prompts

TEXTS = ["a knife on a table", "a dog", "a knife on a table"]
STEPS_OF_ROWS = torch.tensor([999, 700, 3])
OURS = "lib_gie.hosts.webui"


def noise(rows: int, size: int = 8) -> torch.Tensor:
    """The same latents each time, [rows, 4, size, size]."""
    return torch.randn(rows, 4, size, size, generator=torch.Generator().manual_seed(5))


def forget(*packages: str) -> None:
    """Have these packages imported anew."""
    for name in [name for name in sys.modules if any(f"{name}.".startswith(f"{one}.") for one in packages)]:
        del sys.modules[name]


# -- on Forge's own code ------------------------------------------------


@pytest.fixture(scope="module")
def forge(tmp_path_factory):
    """Forge with the demo model loaded: (model, image maker)."""
    folder = os.environ.get("GIE_FORGE_DIR")
    if not folder:
        pytest.skip(not_run.FORGE)
    pytest.importorskip("gradio", reason=not_run.NO_FORGE_PYTHON)
    argv, path, data = list(sys.argv), list(sys.path), tmp_path_factory.mktemp("data")
    sys.argv = ["forge", "--always-cpu", "--all-in-fp32", "--data-dir", str(data)]
    sys.path[:0] = [folder, os.path.join(folder, "packages_3rdparty")]
    forget(OURS, "modules")
    try:
        yield _with_demo_model(Path(folder), data)
    finally:
        forget(OURS, "modules", "modules_forge")
        sys.argv[:], sys.path[:] = argv, path


def _with_demo_model(folder: Path, data: Path) -> SimpleNamespace:
    from modules_forge.initialization import initialize_forge

    initialize_forge()
    from modules import initialize

    initialize.imports()  # in Forge's own order
    from modules import extra_networks, sd_models, sd_samplers

    sd_samplers.set_samplers()
    extra_networks.initialize()
    guess = pytest.importorskip("huggingface_guess.model_list", reason=not_run.NO_FORGE_PYTHON)
    from backend import loader

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loader, "dir_path", str(data))
        patch.setattr(guess.SD15, "unet_config", {**guess.SD15.unet_config, "context_dim": 128, "model_channels": 64})
        _configure(folder / "backend" / "huggingface", data / "huggingface", guess.SD15.huggingface_repo)
        model = loader.forge_loader(str(DEMO_CHECKPOINT))
    names = {"name_for_extra": "gie-demo", "shorthash": "0123", "hash": "0123", "sha256": "0123" * 16}
    model.sd_checkpoint_info = SimpleNamespace(filename=str(DEMO_CHECKPOINT), **names)
    sd_models.model_data.set_sd_model(model)
    return SimpleNamespace(model=model, maker=_maker(SIZE))


def _configure(known: Path, own: Path, name: str) -> None:
    """Copy what Forge knows of SD 1.5, with the demo model's text encoder and autoencoder in their places."""
    shutil.copytree(known / name, own / name)
    shutil.copy(DEMO_CHECKPOINT.parent / "text_encoder" / "config.json", own / name / "text_encoder")
    path = own / name / "vae" / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "block_out_channels": [32, 32, 64, 64]}))


def _maker(side: int):
    made = importlib.import_module(f"{OURS}.training.image_maker").WebUIImageMaker
    return made(sampler="DPM++ 2M", steps=STEPS, cfg=CFG, width=side, height=side, turn=nullcontext)


def test_it_predicts_what_the_unet_does(forge):
    found = forge.maker.predict(noise(3), STEPS_OF_ROWS, TEXTS)
    around = forge.model.forge_objects.unet.model
    with torch.no_grad():
        context = forge.model.get_learned_conditioning(TEXTS)
        plain = around.diffusion_model(noise(3), STEPS_OF_ROWS.float(), context=context)
        assert torch.allclose(found, plain, atol=1e-5)
        sigmas = around.predictor.sigma(STEPS_OF_ROWS)  # [3]
        wide = sigmas.view(-1, 1, 1, 1)
        x = noise(3) * (wide**2 + 1).sqrt()
        denoised = around.apply_model(x, sigmas, c_crossattn=context, transformer_options={})
    assert torch.allclose(x - found * wide, denoised, atol=1e-3)


def test_its_noise_schedule(forge):
    predictor = forge.model.forge_objects.unet.model.predictor
    assert torch.allclose(forge.maker.alphas_cumprod, predictor.alphas_cumprod, atol=1e-6)
    assert not forge.maker.predicts_velocity
    predictor.prediction_type = "v_prediction"
    try:
        assert forge.maker.predicts_velocity
    finally:
        predictor.prediction_type = "epsilon"
    forge.model.model_config.ztsnr = True
    try:
        marked = _maker(SIZE)
        assert marked.alphas_cumprod[-1] < 1e-6
        assert torch.allclose(marked.alphas_cumprod[0], predictor.alphas_cumprod[0], atol=1e-4)
    finally:
        forge.model.model_config.ztsnr = False


def test_the_clip_skip_of_the_settings(forge):
    from modules import shared

    usual = forge.maker.predict(noise(1), STEPS_OF_ROWS[:1], TEXTS[:1])
    shared.opts.data["CLIP_stop_at_last_layers"] = 2
    try:
        skipped = _maker(SIZE).predict(noise(1), STEPS_OF_ROWS[:1], TEXTS[:1])
    finally:
        del shared.opts.data["CLIP_stop_at_last_layers"]
    assert not torch.allclose(skipped, usual, atol=1e-2)
    assert torch.equal(forge.maker.predict(noise(1), STEPS_OF_ROWS[:1], TEXTS[:1]), usual)


def test_loras_of_the_last_images_are_off(forge):
    """Forge keeps a LoRA in the weights until the UNet is prepared without it."""
    from backend import memory_management

    usual = forge.maker.predict(noise(1), STEPS_OF_ROWS[:1], TEXTS[:1])
    key = "diffusion_model.time_embed.0.weight"
    weight = forge.model.forge_objects.unet.model.state_dict()[key].clone()
    patched = forge.model.forge_objects.unet.clone()
    patched.add_patches(filename="ours", patches={key: ("diff", (torch.ones_like(weight),))}, strength_patch=1.0)
    forge.model.forge_objects.unet = patched
    memory_management.load_model_gpu(patched)
    assert torch.allclose(patched.model.state_dict()[key], weight + 1)
    assert torch.equal(forge.maker.predict(noise(1), STEPS_OF_ROWS[:1], TEXTS[:1]), usual)
    assert torch.equal(patched.model.state_dict()[key], weight)


@pytest.fixture(scope="module")
def calibrated(forge):
    return calibrate(forge.maker, "banana", "0123", unchecked=default_scale(forge.maker.base))


def test_a_calibration_is_that_of_the_same_model_in_diffusers(calibrated):
    pytest.importorskip("diffusers", reason=not_run.DIFFUSERS)
    from lib_gie.hosts.diffusers.image_maker import PipelineImageMaker
    from lib_gie.hosts.diffusers.loading import load_pipeline

    maker = PipelineImageMaker(load_pipeline(), FAMILY, name=FAMILY, steps=STEPS, cfg=CFG, size=(SIZE, SIZE))
    expected = calibrate(maker, "banana", "0123", unchecked=default_scale(FAMILY))
    found, other = calibrated.info, expected.info
    assert found.readings == other.readings
    assert found.strength == pytest.approx(other.strength, abs=1e-3)
    assert found.ramp == pytest.approx(other.ramp, abs=1e-3)
    assert found.tells_presence is other.tells_presence is True
    assert found.training["seen_gone"] is other.training["seen_gone"] is True
    for part in ("mean", "spread", "direction"):
        own, its = (getattr(one.discriminant, part) for one in (calibrated, expected))
        assert torch.allclose(own, its, atol=1e-3)


def test_prompts_are_read_alike_as_images_are_sampled(forge, calibrated):
    """What a calibration is read from within Forge's own step is what it was made from, whatever the step's noise."""
    from backend.sampling import condition, sampling_function

    texts = ["a banana, an apple, an orange, a dog, a cat, a house, a tree", "a dog in a park", "a banana"]
    counted = Counted(forge.maker, len(texts), lambda done, expected: None, lambda: False)
    expected = calibrated.presence(read_prompts(counted, calibrated.readings, texts)[..., None])
    encoded = _encoded("banana", forge.model)
    around = forge.model.forge_objects.unet.model
    states = forge.model.get_learned_conditioning(texts)
    cond = condition.compile_weighted_conditions(states, [[(row, 1.0)] for row in range(len(texts))])
    uncond = condition.compile_conditions(forge.model.get_learned_conditioning([""] * len(texts)))
    sampling = ErasedSampling(SimpleNamespace(unet=around.diffusion_model, undisturbed=undrawn))
    with sampling, torch.inference_mode():
        erasure = Erasure([Target(encoded, calibrated)], ledger=sampling.ledger)
        sampling.attach(erasure)
        sampling.begin_step(MarkedRows([[(image, 0) for image in range(len(texts))]]), 0.0)
        sigma = around.predictor.sigmas[[500] * len(texts)]  # [B]
        sampling_function.calc_cond_uncond_batch(around, cond, uncond, 9 * noise(len(texts)), sigma, {})
    found = [erasure.scales[image, 0][0] for image in range(len(texts))]
    assert 0 == expected[1] < expected[0] < expected[2] == 1
    assert found == pytest.approx((calibrated.info.strength * expected.flatten()).tolist(), abs=1e-3)


def _encoded(text: str, model):
    from lib_gie.core.concepts import Concept

    return importlib.import_module(f"{OURS}.host.model").encode_concept(Concept(text), model)


# -- on a fake ------------------------------------------------


LORA, PATCH = "UNet with a LoRA", "UNet with another extension's patch"


class Patcher:
    """A patcher of a model. ``used``: collects what is brought to run, in order."""

    def __init__(self, model, name: str, used: list[str]):
        self.model, self.name, self.used = model, name, used


class Objects(SimpleNamespace):
    def shallow_copy(self):
        return Objects(**vars(self))


class Engine(TextEncoder):
    """A text engine of Forge, whose states depend on the clip skip."""

    clip_skip, embeddings = 1, SimpleNamespace(fixes=None)

    def tokenize_line(self, line):
        return [line], len(self.tokenize([line])[0])

    def __call__(self, texts):
        rows = [[self.id_start, *own, *[self.id_end] * (76 - len(own))] for own in self.tokenize(texts)]
        return self.clip_skip * self.process_tokens(rows, [[1.0] * 77] * len(rows))  # [B, 77, D]


class FakeForge:
    """A loaded model as Forge has it. The last generation has left patches on it: a LoRA, or another extension's."""

    is_sd1, tiling_enabled = True, False

    def __init__(self, left: str):
        self.used: list[str] = []
        self.text_processing_engine = Engine()
        unet = build_ldm().module
        predictor = SimpleNamespace(sigmas=torch.linspace(0.03, 14.6, 1000), prediction_type="epsilon")
        around = SimpleNamespace(diffusion_model=unet, computation_dtype=torch.float32, predictor=predictor)
        clip = SimpleNamespace(patcher=Patcher(None, "text encoder", self.used))
        self.forge_objects_original = Objects(unet=Patcher(around, "UNet", self.used), clip=clip, vae="its own")
        self.forge_objects = Objects(unet=Patcher(around, left, self.used), clip=clip, vae="another extension's")
        kept = self.forge_objects if left == LORA else self.forge_objects_original
        self.forge_objects_after_applying_lora = kept.shallow_copy()
        self.loras, self.named = {LORA} & {left}, set()
        names = {"name_for_extra": "tiny", "shorthash": "0123", "hash": "0123", "sha256": "0123" * 16}
        self.sd_checkpoint_info = SimpleNamespace(filename="tiny.safetensors", **names)

    def set_clip_skip(self, skip):
        self.text_processing_engine.clip_skip = skip

    def get_learned_conditioning(self, texts):
        return self.text_processing_engine(texts)

    def activate(self, p, networks):
        """As Forge's own extension does: nothing where a prompt names the LoRAs of the last one, here none."""
        if self.loras == self.named:
            return
        self.forge_objects.unet = self.forge_objects_original.unet
        self.forge_objects_after_applying_lora = self.forge_objects.shallow_copy()


class FakeProcessing(SimpleNamespace):
    def get_token_merging_ratio(self):
        return 0


@pytest.fixture(params=[LORA, PATCH])
def fake(start, monkeypatch, tmp_path, request):  # noqa: F811
    """(model, image maker) as if Forge ran here."""
    _, host = start
    model = FakeForge(request.param)

    class Conditioning(list):
        def __init__(self, texts, width, height):
            super().__init__(texts)

    tag = re.compile(r"<(\w+):([^>]+)>")
    host.shared.sd_model = model
    host.shared.opts.CLIP_stop_at_last_layers = 2
    host.shared.opts.data_labels = {}
    own = {
        "devices": {"device": torch.device("cpu"), "dtype_unet": torch.float8_e4m3fn},  # that of weights on Forge
        "paths_internal": {"data_path": str(tmp_path)},
        "processing": {"StableDiffusionProcessingTxt2Img": FakeProcessing},
        "prompt_parser": {
            "SdConditioning": Conditioning,
            "get_multicond_prompt_list": lambda texts: ([[(0, 1.0)] for _ in texts], None, None),
        },
        "extra_networks": {
            "activate": model.activate, "deactivate": lambda p, networks: None, "re_extra_net": tag,
            "parse_prompt": lambda text: (tag.sub("", text), {}), "parse_prompts": lambda texts: (texts, {}),
        },
        "sd_models": {"apply_token_merging": lambda model, ratio: None},
        "sd_samplers": {}, "sd_vae": {"get_loaded_vae_name": lambda: None},
        "call_queue": {"queue_lock": threading.Lock()},
    }  # fmt: skip
    for name, attributes in own.items():
        module = sys.modules.get(f"modules.{name}") or ModuleType(f"modules.{name}")
        monkeypatch.setitem(sys.modules, f"modules.{name}", module)
        monkeypatch.setattr(sys.modules["modules"], name, module, raising=False)
        for attribute, value in attributes.items():
            monkeypatch.setattr(module, attribute, value, raising=False)
    _fake_backend(monkeypatch, model)
    return SimpleNamespace(model=model, maker=_maker(64))


def _fake_backend(monkeypatch, model) -> None:
    """What Forge brings models to run with, which notes what is brought, and its rescaling to end in pure noise."""
    memory = ModuleType("backend.memory_management")
    memory.load_model_gpu = lambda patcher: model.used.append(patcher.name)
    sampling = ModuleType("backend.sampling.sampling_function")
    sampling.sampling_prepare = lambda patcher, latents: model.used.append(patcher.name)
    prediction = ModuleType("backend.modules.k_prediction")
    prediction.rescale_zero_terminal_snr_sigmas = lambda sigmas: torch.cat((sigmas[:-1], sigmas.new_full((1,), 4096)))
    backend = ModuleType("backend")
    backend.memory_management = memory
    for module in (backend, memory, sampling, prediction):
        monkeypatch.setitem(sys.modules, module.__name__, module)


@pytest.mark.parametrize("start", [FORGE], indirect=True)
def test_predictions_on_a_fake(fake):
    found = fake.maker.predict(noise(3), STEPS_OF_ROWS, TEXTS)
    assert fake.model.text_processing_engine.clip_skip == 2
    context = fake.model.get_learned_conditioning(TEXTS)
    unet = fake.model.forge_objects_original.unet.model.diffusion_model
    with torch.no_grad():
        assert torch.allclose(found, unet(noise(3), STEPS_OF_ROWS, context=context), atol=1e-5)
    assert fake.model.used == ["text encoder", "UNet"]  # the UNet last, and without patches
    assert fake.model.forge_objects.vae == "its own"


@pytest.mark.parametrize("start", [FORGE], indirect=True)
@pytest.mark.parametrize("by", ["nothing", "checkpoint", "setting"])
def test_its_noise_schedule_on_a_fake(fake, start, by, monkeypatch):  # noqa: F811
    """Only a checkpoint that is marked, or the setting, makes it end in pure noise."""
    monkeypatch.setattr(fake.model, "model_config", SimpleNamespace(ztsnr=by == "checkpoint"), raising=False)
    chosen = "Zero Terminal SNR" if by == "setting" else "Default"
    monkeypatch.setattr(start[1].shared.opts, "sd_noise_schedule", chosen, raising=False)
    sigmas = fake.model.forge_objects_original.unet.model.predictor.sigmas  # [timesteps]
    found, expected = _maker(64).alphas_cumprod, 1 / (sigmas**2 + 1)  # [timesteps]
    assert torch.allclose(found[:-1], expected[:-1])
    assert (found[-1] < 1e-6) == (by != "nothing")
    assert (found[-1] == expected[-1]) == (by == "nothing")


@pytest.mark.parametrize("start", [FORGE], indirect=True)
def test_predictions_with_a_concept_erased_on_a_fake(fake):
    plain = fake.maker.predict(noise(3), STEPS_OF_ROWS, TEXTS)
    fake.model.used.clear()
    scales = torch.tensor([0.0, -1.0, -3.0])
    found = fake.maker.predict(noise(3), STEPS_OF_ROWS, TEXTS, "knife", scales)
    assert torch.allclose(found[0], plain[0], atol=1e-5)
    assert all(not torch.allclose(found[row], plain[row], atol=1e-4) for row in (1, 2))
    assert set(fake.model.used) == {"text encoder", "UNet"}
    assert fake.model.used[-1] == "UNet"


@pytest.mark.parametrize("start", [FORGE], indirect=True)
def test_networks_that_a_text_names_stay_on_a_fake(fake):
    """Forge does not put those on again that the last images had, but keeps the patched model."""
    fake.model.named = fake.model.loras
    fake.maker.predict(noise(1), STEPS_OF_ROWS[:1], TEXTS[:1])
    assert fake.model.used[-1] == (LORA if fake.model.loras else "UNet")
