"""The demo model: the words it knows, its training loop, its file's layout, and the file that ships."""

from __future__ import annotations

import json
import os
import shutil

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from lib_gie.assets import DEMO_CHECKPOINT, DEMO_TEXT_ENCODER
from lib_gie.demo import diffusion, export, text, vae
from lib_gie.demo.loop import run
from lib_gie.demo.sampling_settings import SIZE
from lib_gie.demo.words import unknown_words_message
from lib_gie.demo.world.captions import words
from lib_gie.demo.world.styles import STYLES
from lib_gie.named import words_of


def test_unknown_words_are_named_with_what_is_drawn():
    message = unknown_words_message("a gun and a tank", "prompt")
    assert "words gun, tank of the prompt" in message
    assert "umbrella" in message
    assert "pencil sketch" in message
    assert "Did you mean" not in message
    assert "Did you mean knife? It draws" in unknown_words_message("a knif", "concept")
    assert "Did you mean watercolour, banana?" in unknown_words_message("watercolor of a bananna", "prompt")
    assert "the word gun of the concept" in unknown_words_message("a gun, a GUN", "concept")
    assert unknown_words_message("A Pencil Sketch of a cheroot", "prompt") is None


def test_the_models_page_lists_every_word():
    page = (DEMO_CHECKPOINT.parent / "README.md").read_text(encoding="utf-8")
    assert set(words()) <= set(words_of(page))


def test_training_can_be_interrupted(tmp_path):
    """Stopped and resumed, the loop gives the same weights bit for bit."""

    def train(folder, until):
        torch.manual_seed(0)
        module = torch.nn.Linear(3, 2)

        def loss(step):
            if step == until:
                raise KeyboardInterrupt
            torch.manual_seed(step)
            return module(torch.randn(5, 3)).square().mean()

        return run(module, loss, steps=40, rate=0.1, state_path=folder / "state.pt", save_every=10).shadow

    whole = train(tmp_path / "a", None)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "b", 25)
    resumed = train(tmp_path / "b", None)
    assert all(torch.equal(whole[key], resumed[key]) for key in whole)


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    torch.manual_seed(0)
    model = diffusion.TextToLatents(text.ReducedVocabulary(text.load_tokenizer())).eval()
    autoencoder = vae.build_vae().eval()
    path = tmp_path_factory.mktemp("demo") / "random.safetensors"
    export.export(model, autoencoder, path, {"title": "random"})
    return model, autoencoder, path


def test_training_can_go_on_from_a_checkpoint(exported):
    model, autoencoder, path = exported
    restored, other_vae = diffusion.TextToLatents(model.vocabulary), vae.build_vae()
    export.restore(restored, other_vae, path)
    for ours, theirs in ((model, restored), (autoencoder, other_vae)):
        after = theirs.state_dict()
        for key, value in ours.state_dict().items():
            assert torch.allclose(value, after[key], rtol=1e-3, atol=1e-6), key


def test_checkpoint_has_sd1_names(exported):
    """The exported UNet loads strictly into ldm's own class and computes the same there."""
    from ldm.modules.diffusionmodules.openaimodel import UNetModel

    model, _, path = exported
    state, prefix = load_file(path), "model.diffusion_model."
    theirs = UNetModel(image_size=8, in_channels=4, model_channels=64, out_channels=4, num_res_blocks=2,
                       attention_resolutions=[4, 2, 1], channel_mult=[1, 2, 2, 2], num_heads=8,
                       use_spatial_transformer=True, transformer_depth=1, context_dim=128, use_checkpoint=False,
                       legacy=False).eval()  # fmt: skip
    theirs.load_state_dict({key.removeprefix(prefix): v.float() for key, v in state.items() if key.startswith(prefix)})
    latents, times, context = torch.randn(2, 4, 8, 8), torch.tensor([10, 700]), torch.randn(2, 77, 128)
    with torch.no_grad():
        expected = model.unet(latents, times, context).sample
        found = theirs(latents, times, context=context)
    torch.testing.assert_close(found, expected, atol=2e-2, rtol=2e-2)
    assert all(value.dtype == torch.float16 for value in state.values())


def test_checkpoint_loads_into_diffusers(exported, monkeypatch):
    from lib_gie.hosts.diffusers import loading

    model, autoencoder, path = exported
    os.symlink(DEMO_TEXT_ENCODER, path.parent / "text_encoder")
    monkeypatch.setattr(loading, "DEMO_CHECKPOINT", path)
    pipe = loading.load_pipeline()
    image = torch.rand(1, 3, 64, 64) * 2 - 1
    with torch.no_grad():
        torch.testing.assert_close(
            pipe.vae.encode(image).latent_dist.mode(),
            autoencoder.encode(image).latent_dist.mode(),
            atol=2e-2,
            rtol=2e-2,
        )
        captions = ["a cat and a syringe on a blue background", ""]
        ids = pipe.tokenizer(captions, padding="max_length", max_length=77, return_tensors="pt").input_ids
        states = pipe.text_encoder(ids)[0]  # [2, 77, D]
        expected = model.encode(captions, 77)
    assert float(states.mean()) < -0.2, "the WebUI's emphasis divides by this mean"
    states[..., diffusion.OFFSET_CHANNEL] = 0
    torch.testing.assert_close(states, expected, atol=2e-2, rtol=2e-2)
    assert pipe.vae.config.scaling_factor == vae.SCALING_FACTOR


@pytest.fixture(scope="module")
def seeing():
    """What ``quality`` measures of the detector and the shipped autoencoder, by style."""
    from lib_gie.evaluation.model_quality import detector_figures
    from lib_gie.hosts.diffusers import load_pipeline

    return detector_figures(load_pipeline(), scenes=64)


def test_shipped_checkpoint_is_small_and_says_what_it_is():
    assert DEMO_CHECKPOINT.stat().st_size < 60_000_000
    with safe_open(DEMO_CHECKPOINT, "pt") as file:
        metadata = file.metadata()
        assert "Growth Inhibitors demo model" in metadata["title"]
        training = json.loads(metadata["training"])
        assert training["size"] == SIZE
        assert training["steps"] > 0
        assert training["tokens"] == len(text.ReducedVocabulary(text.load_tokenizer())), "it knows today's words"
        assert json.loads(metadata["figures"])["set"] == "validation"
        assert file.get_tensor("model.diffusion_model.input_blocks.0.0.weight").dtype == torch.float16
    assert "GIE_DEMO_TEXT_ENCODER" in DEMO_CHECKPOINT.with_suffix(".yaml").read_text()


@pytest.mark.parametrize("style", STYLES)
def test_the_detector_sees_through_the_autoencoder(seeing, style):
    """Thin watercolours on pale ground are missed most, and plain things that come out blurred are taken for them."""
    found = seeing[style]
    assert found.precision.value >= 0.97
    assert found.recall.value >= (0.93 if style == "watercolour" else 0.97)
    assert found.style.value >= (0.93 if style == "plain" else 0.97)
    assert found.decibel > 22


def test_other_checkpoints_are_sampled_at_512_pixels(tmp_path):
    """The loader's image size is in pixels; the demo model's own is 64."""
    from lib_gie.hosts.diffusers import load_pipeline

    for suffix in (".safetensors", ".yaml"):
        shutil.copy(DEMO_CHECKPOINT.with_suffix(suffix), tmp_path / f"other{suffix}")
    shutil.copytree(DEMO_CHECKPOINT.parent / "text_encoder", tmp_path / "text_encoder")
    sides = []
    for path in (None, tmp_path / "other.safetensors"):
        pipe = load_pipeline(path)
        sides.append(pipe.unet.config.sample_size * pipe.vae_scale_factor)
    assert sides == [64, 512]
