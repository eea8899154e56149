"""Growth inhibitors on real diffusers pipelines with tiny random weights and the real tokenizer."""

from __future__ import annotations

import contextlib

import accelerate
import numpy as np
import pytest
import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EulerAncestralDiscreteScheduler,
    HeunDiscreteScheduler,
    LCMScheduler,
    PNDMScheduler,
    StableDiffusionImg2ImgPipeline,
    StableDiffusionPipeline,
    UNet2DConditionModel,
    UniPCMultistepScheduler,
)
from diffusers.models.attention_processor import AttnProcessor
from PIL import Image
from tiny import randomise
from transformers import CLIPTextConfig, CLIPTextModel

from lib_gie.core.composition import Trace
from lib_gie.core.scales.adapter import Adapter, AdapterInfo
from lib_gie.demo.text import load_tokenizer
from lib_gie.errors import ConceptError, ErasureError, GieError, OptionError, UnsupportedModelError
from lib_gie.hosts.diffusers import GrowthInhibitors, load_pipeline
from lib_gie.hosts.diffusers.texts import concept_tokens

SCHEDULERS = (
    DDIMScheduler,
    PNDMScheduler,
    EulerAncestralDiscreteScheduler,
    HeunDiscreteScheduler,
    DPMSolverMultistepScheduler,
    UniPCMultistepScheduler,
    LCMScheduler,
)


def build_pipe() -> StableDiffusionPipeline:
    torch.manual_seed(0)
    text = CLIPTextModel(
        CLIPTextConfig(hidden_size=24, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2)
    )
    unet = UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(32, 64),
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        attention_head_dim=2,
        cross_attention_dim=24,
        layers_per_block=1,
    )
    vae = AutoencoderKL(block_out_channels=(32, 32, 32, 32), down_block_types=("DownEncoderBlock2D",) * 4,
                        up_block_types=("UpDecoderBlock2D",) * 4, sample_size=64)  # fmt: skip
    pipe = StableDiffusionPipeline(
        vae=vae.eval(),
        text_encoder=text.eval(),
        tokenizer=load_tokenizer(),
        unet=randomise(unet),
        scheduler=DDIMScheduler(
            beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False, steps_offset=1
        ),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.fixture
def pipe():
    return build_pipe()


def sample(pipe, prompt="a cat and a knife", seed=1, **options):
    call = {"num_inference_steps": 3, "guidance_scale": 4.0, "output_type": "latent", **options}
    with torch.no_grad():
        return pipe(prompt, generator=torch.Generator().manual_seed(seed), **call).images


@pytest.mark.parametrize("guidance", [1.0, 4.0])
@pytest.mark.parametrize(
    ("prompt", "options"),
    [
        ("a cat", {}),
        (["a cat", "a dog"], {}),
        ("a cat", {"num_images_per_prompt": 3}),
        (["a cat", "a dog"], {"num_images_per_prompt": 2}),
        ("a cat", {"negative_prompt": "a very long negative prompt of other length"}),
    ],
)
def test_changes_images_and_leaves_nothing_behind(pipe, prompt, options, guidance):
    plain = sample(pipe, prompt, guidance_scale=guidance, **options)
    with GrowthInhibitors(pipe, "knife", scale=-3) as user:
        erased = sample(pipe, prompt, guidance_scale=guidance, **options)
        again = sample(pipe, prompt, guidance_scale=guidance, **options)
    assert len(user.scales) == len(erased)
    assert all(float(scales[0]) == -3 for scales in user.scales)
    assert ((erased - plain).flatten(1).abs().amax(1) > 1e-3).all()
    assert torch.equal(erased, again)
    assert torch.equal(sample(pipe, prompt, guidance_scale=guidance, **options), plain)
    assert "encode_prompt" not in pipe.__dict__
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in pipe.unet.modules())


@pytest.mark.parametrize("scheduler", SCHEDULERS, ids=lambda kind: kind.__name__)
def test_any_scheduler(pipe, scheduler):
    pipe.scheduler = scheduler.from_config(pipe.scheduler.config)
    plain = sample(pipe, num_inference_steps=5)
    with GrowthInhibitors(pipe, "knife", scale=-3):
        erased = sample(pipe, num_inference_steps=5)
    with GrowthInhibitors(pipe, "knife", scale=0):
        assert torch.equal(sample(pipe, num_inference_steps=5), plain)
    assert (erased - plain).abs().max() > 1e-3


def test_scheduler_changed_within(pipe):
    with GrowthInhibitors(pipe, "knife", scale=-3):
        sample(pipe)
        pipe.scheduler = HeunDiscreteScheduler.from_config(pipe.scheduler.config)
        second = sample(pipe)
    with GrowthInhibitors(pipe, "knife", scale=-3):
        assert torch.equal(sample(pipe), second)


def test_batch_equals_single_images(pipe):
    seeds = [3, 4, 5]
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    with torch.no_grad(), GrowthInhibitors(pipe, "knife", scale=-3):
        together = pipe(["a cat", "a dog", "a house"], generator=generators, num_inference_steps=3,
                        guidance_scale=4.0, output_type="latent").images  # fmt: skip
        single = sample(pipe, "a dog", seed=4)
    torch.testing.assert_close(together[1:2], single, atol=1e-4, rtol=1e-4)


def test_guidance_that_is_switched_off_on_the_way(pipe):
    """diffusers' documented use of callbacks: drop the unconditional rows after some steps."""

    def off_at_second_step(pipe, step, timestep, tensors):
        if step == 1:
            pipe._guidance_scale = 0.0
            tensors["prompt_embeds"] = tensors["prompt_embeds"].chunk(2)[-1]
        return tensors

    options = {
        "callback_on_step_end": off_at_second_step,
        "callback_on_step_end_tensor_inputs": ["prompt_embeds"],
        "num_inference_steps": 4,
    }
    plain = sample(pipe, **options)
    with GrowthInhibitors(pipe, "knife", scale=-3):
        erased = sample(pipe, **options)
    assert (erased - plain).abs().max() > 1e-3


def test_start_and_end_count_steps(pipe):
    plain = sample(pipe, num_inference_steps=10)
    seen = []

    def note(pipe, step, timestep, tensors):
        seen.append(user.erasure.injects)
        return tensors

    with GrowthInhibitors(pipe, "knife", scale=-3, start=0.2, end=0.8) as user:
        erased = sample(pipe, num_inference_steps=10, callback_on_step_end=note)
    assert seen == [False] * 2 + [True] * 6 + [False] * 2
    assert (erased - plain).abs().max() > 1e-3


def test_adapter_gives_every_image_its_own_scale(pipe):
    torch.manual_seed(4)
    adapter = Adapter(AdapterInfo("width-24", 7, ("knife",), (-9.0, 0.0))).eval()
    adapter.out.bias.data.fill_(-4)
    adapter.input_std.fill_(0.01)
    with GrowthInhibitors(pipe, "knife, red wine", adapter=adapter) as user:
        sample(pipe, ["a cat", "a knife and wine"])
    scales = torch.stack([torch.cat(one) for one in user.scales])  # [images, 1 + 2 tokens]
    assert scales.shape == (2, 3)
    assert (scales[0] - scales[1]).abs().max() > 1e-4
    assert (scales <= 0).all()
    assert (scales >= -9).all()


def test_the_fixed_scale_behind_an_adapter_knows_the_clip_skip(pipe, monkeypatch):
    encoder = type(pipe.text_encoder)
    if not hasattr(pipe.text_encoder, "text_model"):  # diffusers asks for it, transformers 5 has it no more
        monkeypatch.setattr(encoder, "text_model", property(lambda own: own), raising=False)
    info = AdapterInfo("width-24", 7, ("knife",), (-9.0, 0.0), conditions={"clip_skip": 1})
    adapter = Adapter(info).eval()
    adapter.out.bias.data.fill_(0.0)
    found = {}
    for clip_skip in (None, 1):  # diffusers counts the layers that are left out
        with GrowthInhibitors(pipe, "knife", adapter=adapter) as user:
            sample(pipe, "a knife", clip_skip=clip_skip)
        found[clip_skip] = user.scales[0][0].item()
    assert found == {None: -3.0, 1: -6.0}


def kept(pipe, scale=-4.0, prompt="a cat and a knife", **options):
    """Latents without erasure, and with it and the composition kept."""
    shares = {name: options.pop(name) for name in ("composition_cross", "composition_self") if name in options}
    trace = Trace()
    with GrowthInhibitors(pipe, "knife", scale=0.0, trace=trace):
        before = sample(pipe, prompt, **options)
    with GrowthInhibitors(pipe, "knife", scale=scale, composition=trace, **shares):
        return before, sample(pipe, prompt, **options)


@pytest.mark.parametrize("guidance", [1.0, 4.0])
@pytest.mark.parametrize("scheduler", [DDIMScheduler, EulerAncestralDiscreteScheduler, HeunDiscreteScheduler])
def test_kept_composition(pipe, scheduler, guidance):
    pipe.scheduler = scheduler.from_config(pipe.scheduler.config)
    plain = sample(pipe, guidance_scale=guidance)
    with GrowthInhibitors(pipe, "knife", scale=-4.0):
        erased = sample(pipe, guidance_scale=guidance)
    before, after = kept(pipe, guidance_scale=guidance)
    assert torch.equal(before, plain)
    assert torch.equal(after, kept(pipe, guidance_scale=guidance)[1])
    assert not torch.equal(after, erased)
    assert torch.equal(kept(pipe, guidance_scale=guidance, composition_cross=0.0, composition_self=0.0)[1], erased)
    assert torch.equal(kept(pipe, 0.0, guidance_scale=guidance)[1], plain)


def test_kept_composition_of_batches(pipe):
    before, after = kept(pipe, prompt=["a cat and a knife", "a dog and a knife"])
    alone = kept(pipe, prompt=["a cat and a knife"])
    assert before.shape == after.shape == (2, 4, 8, 8)
    assert alone[1].shape == (1, 4, 8, 8)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        ({"seed": 2}, "other noise"),
        ({"prompt": "a dog"}, "another prompt"),
        ({"num_inference_steps": 4}, "timestep"),
        ({"prompt": ["a cat and a knife"] * 2}, "rows"),
    ],
)
def test_composition_of_another_image(pipe, call, says):
    trace = Trace()
    with GrowthInhibitors(pipe, "knife", scale=0.0, trace=trace):
        sample(pipe)
    with pytest.raises(ErasureError, match=says), GrowthInhibitors(pipe, "knife", scale=-4.0, composition=trace):
        sample(pipe, **call)


def test_composition_of_nothing(pipe):
    with pytest.raises(OptionError, match="make that one first"):
        GrowthInhibitors(pipe, "knife", scale=-4.0, composition=Trace()).__enter__()


def test_image_to_image_on_the_same_unet(pipe):
    other = StableDiffusionImg2ImgPipeline(**pipe.components, requires_safety_checker=False)
    other.set_progress_bar_config(disable=True)
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8))
    options = {"image": image, "strength": 0.6, "num_inference_steps": 10}
    plain = sample(other, **options)
    with GrowthInhibitors(other, "knife", scale=-3, end=0.5) as user:
        erased = sample(other, **options)
    assert user.steps_made == 6
    assert (erased - plain).abs().max() > 1e-3


def test_a_pipeline_that_is_not_watched_fails_on_the_same_unet(pipe):
    other = StableDiffusionPipeline(**pipe.components, requires_safety_checker=False)
    other.set_progress_bar_config(disable=True)
    with GrowthInhibitors(other, "knife", scale=-3):
        with pytest.raises(ErasureError, match="outside"):
            sample(pipe)
        sample(other)
        with pytest.raises(ErasureError, match="outside"):
            sample(pipe)
        sample(other)


def test_nested_use_erases_both(pipe):
    with GrowthInhibitors(pipe, "knife, red wine", scale=-2):
        expected = sample(pipe)
    with GrowthInhibitors(pipe, "knife", scale=-2), GrowthInhibitors(pipe, "red wine", scale=-2):
        torch.testing.assert_close(sample(pipe), expected, atol=1e-4, rtol=1e-4)
    assert "encode_prompt" not in pipe.__dict__


def test_cannot_be_entered_twice(pipe):
    with GrowthInhibitors(pipe, "knife") as user, pytest.raises(OptionError, match="in use"), user:
        pass


def test_nothing_stays_behind_after_an_error(pipe):
    plain = sample(pipe)
    with pytest.raises(ZeroDivisionError), GrowthInhibitors(pipe, "knife", scale=-3):
        sample(pipe, callback_on_step_end=lambda *_: 1 / 0)
    assert torch.equal(sample(pipe), plain)


def test_tokens_are_the_concepts_own(pipe):
    assert concept_tokens(pipe, "knife") == ["knife</w>"]
    assert concept_tokens(pipe, "Van  Gogh style") == ["van</w>", "gogh</w>", "style</w>"]
    assert concept_tokens(pipe, "syringe") == ["sy", "r", "inge</w>"]


def test_bad_arguments_are_refused_at_once(pipe):
    with pytest.raises(ConceptError, match="empty"):
        GrowthInhibitors(pipe, " ")
    for given in (None, 3, [], ["knife"]):
        with pytest.raises(ConceptError, match="must be a text"):
            GrowthInhibitors(pipe, given)
    with pytest.raises(ConceptError, match=r"\d+ tokens; at most 75"):
        GrowthInhibitors(pipe, "knife " * 80)
    with pytest.raises(OptionError, match="both"):
        GrowthInhibitors(pipe, "knife", scale=-3, adapter="x.safetensors")
    with pytest.raises(OptionError, match="scale"):
        GrowthInhibitors(pipe, "knife", scale=3)
    with pytest.raises(OptionError, match="strength"):
        GrowthInhibitors(pipe, "knife", strength=9)
    with pytest.raises(OptionError, match="concept_pass"):
        GrowthInhibitors(pipe, "knife", concept_pass="x")
    with pytest.raises(GieError, match="no adapter file"):
        GrowthInhibitors(pipe, "knife", adapter="missing.safetensors")
    wrong = Adapter(AdapterInfo("sd1", 16, ("knife",), (-9.0, 0.0)))
    with pytest.raises(GieError, match="trained on sd1, and this model is width-24"):
        GrowthInhibitors(pipe, "knife", adapter=wrong)
    with pytest.raises(UnsupportedModelError, match="no unet"):
        GrowthInhibitors(object(), "knife")


def test_seventy_five_tokens_fit(pipe):
    with GrowthInhibitors(pipe, "knife " * 75, scale=-0.1):
        sample(pipe)


def test_loads_a_diffusers_folder(pipe, tmp_path):
    pipe.save_pretrained(tmp_path)
    loaded = load_pipeline(tmp_path)
    assert type(loaded.scheduler) is DPMSolverMultistepScheduler
    with GrowthInhibitors(loaded, "knife", scale=-3):
        sample(loaded)


@pytest.mark.parametrize(("name", "says"), [("missing.safetensors", "no model"), ("x.ckpt", "can run code")])
def test_refuses_other_models(tmp_path, name, says):
    (tmp_path / "x.ckpt").write_bytes(b"x")
    with pytest.raises(GieError, match=says):
        load_pipeline(tmp_path / name)


def test_a_callback_may_encode_prompts(pipe):
    """It begins no new generation: the clock goes on, and a prompt that it brings in is erased from as well."""
    seen = []

    def other_prompt(pipe, step, timestep, tensors):
        seen.append(user.erasure.injects)
        if step == 4:
            found = pipe.encode_prompt("a knife", "cpu", 1, True)
            tensors["prompt_embeds"] = torch.cat(found[1::-1])
        else:
            pipe.encode_prompt("a house", "cpu", 1, False)
        return tensors

    options = {"callback_on_step_end": other_prompt, "callback_on_step_end_tensor_inputs": ["prompt_embeds"]}
    with GrowthInhibitors(pipe, "knife", scale=-3, start=0.5) as user:
        first = user.erasure
        sample(pipe, num_inference_steps=10, **options)
    assert first is None
    assert seen == [False] * 5 + [True] * 5
    assert user.steps_made == 10


def test_prompts_encoded_before_the_call(pipe):
    with GrowthInhibitors(pipe, "knife", scale=-3) as user:
        expected = sample(pipe)
        before = user.erasure
        found = pipe.encode_prompt("a cat and a knife", "cpu", 1, True)
        assert user.erasure is before
        given = sample(pipe, None, prompt_embeds=found[0], negative_prompt_embeds=found[1])
    assert torch.equal(given, expected)


def test_one_call_within_another(pipe):
    with (
        pytest.raises(ErasureError, match="called from within"),
        GrowthInhibitors(pipe, "knife", scale=-3),
    ):
        sample(pipe, callback_on_step_end=lambda *_: sample(pipe))


def test_two_pipelines_of_one_unet_have_their_own(pipe):
    other = StableDiffusionImg2ImgPipeline.from_pipe(pipe)
    other.set_progress_bar_config(disable=True)
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8))
    with GrowthInhibitors(pipe, "knife", scale=-3):
        expected = sample(pipe)
    with GrowthInhibitors(other, "wine", scale=-2):
        expected_other = sample(other, image=image)
    with GrowthInhibitors(pipe, "knife", scale=-3), GrowthInhibitors(other, "wine", scale=-2):
        assert torch.equal(sample(pipe), expected)
        assert torch.equal(sample(other, image=image), expected_other)
        with pytest.raises(ErasureError, match="called from within"):
            sample(pipe, callback_on_step_end=lambda *_: sample(other, image=image))


@pytest.mark.parametrize(("start", "end"), [(0.4, 0.6), (0.7, 0.9)])
def test_a_range_without_a_step(pipe, start, end):
    with (
        pytest.raises(ErasureError, match="lies between start and end"),
        GrowthInhibitors(pipe, "knife", scale=-3, start=start, end=end),
    ):
        sample(pipe)
    with GrowthInhibitors(pipe, "knife", scale=-3, start=start, end=end, strength=0.0):
        sample(pipe)


def interrupt_at(last):
    def interrupt(pipe, step, timestep, tensors):
        pipe._interrupt = step == last
        return tensors

    return interrupt


def test_interrupted(pipe):
    with GrowthInhibitors(pipe, "knife", scale=-3) as user:
        sample(pipe, num_inference_steps=10, callback_on_step_end=interrupt_at(3))
    assert user.steps_made == 4
    with pytest.raises(ErasureError, match="interrupted before"), GrowthInhibitors(pipe, "knife", scale=-3, start=0.5):
        sample(pipe, num_inference_steps=10, callback_on_step_end=interrupt_at(3))


def test_each_call_is_checked_when_it_ends(pipe):
    """Not only the last one, when the context is left."""
    unet, other = pipe.unet, build_pipe().unet

    def replace(pipe, step, timestep, tensors):
        pipe.unet = other
        return tensors

    with GrowthInhibitors(pipe, "knife", scale=-3):
        with pytest.raises(ErasureError, match="1 of the pipeline's 3 steps"):
            sample(pipe, callback_on_step_end=replace)
        pipe.unet = unet
        sample(pipe)


def test_unet_replaced_between_calls(pipe):
    with GrowthInhibitors(pipe, "knife", scale=-3):
        expected = sample(pipe)
    old, pipe.unet = pipe.unet, build_pipe().unet
    user = GrowthInhibitors(pipe, "knife", scale=-3)
    with user:
        sample(pipe)
        pipe.unet = old
        assert torch.equal(sample(pipe), expected)
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in pipe.unet.modules())


class OwnCall(StableDiffusionPipeline):
    """A user's class that does something about the call and leaves the sampling as it is."""

    def __call__(self, *args, **kwargs):
        return super().__call__(*args, **kwargs)


class Swapped(StableDiffusionPipeline):
    """A user's class that puts the prompt's rows first."""

    @torch.no_grad()
    def __call__(self, prompt, **kwargs):
        found = self.encode_prompt(prompt, "cpu", 1, True)
        self.scheduler.set_timesteps(3)
        self._guidance_scale, self._num_timesteps = 4.0, 3
        latents = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(1))  # [2, 4, 8, 8]
        for t in self.scheduler.timesteps:
            self.unet(latents, t, encoder_hidden_states=torch.cat(found[:2]))


class Inheriting(StableDiffusionPipeline):
    """A user's class that inherits its call."""


@pytest.mark.parametrize("kind", [OwnCall, Inheriting])
def test_classes_of_ones_own(pipe, kind):
    with GrowthInhibitors(pipe, "knife", scale=-3):
        expected = sample(pipe)
    own = kind(**pipe.components, requires_safety_checker=False)
    own.set_progress_bar_config(disable=True)
    plain = vars(kind).get("__call__")
    with GrowthInhibitors(own, "knife", scale=-3), GrowthInhibitors(pipe, "knife", scale=-1):
        assert torch.equal(sample(own), expected)
    assert vars(kind).get("__call__") is plain


def test_rows_are_told_apart_by_what_they_are(pipe):
    own = Swapped(**pipe.components, requires_safety_checker=False)
    with pytest.raises(ErasureError, match="other rows"), GrowthInhibitors(own, "knife", scale=-3):
        own("a cat")


@pytest.mark.parametrize("order", [[1, 0], [0, 0], [1, 1]])
def test_rows_that_something_changes_on_their_way(pipe, order):
    inner = pipe.unet.forward
    pipe.unet.register_forward_pre_hook(
        lambda unet, args, kwargs: (args, {**kwargs, "encoder_hidden_states": kwargs["encoder_hidden_states"][order]}),
        with_kwargs=True,
    )
    with pytest.raises(ErasureError, match="other rows"), GrowthInhibitors(pipe, "knife", scale=-3):
        sample(pipe)
    assert pipe.unet.forward == inner


def test_a_wrapped_forward_that_changes_places(pipe):
    inner = pipe.unet.forward

    def forward(sample, timestep, encoder_hidden_states, **kwargs):
        (made,) = inner(sample.flip(0), timestep, encoder_hidden_states.flip(0), **kwargs)
        return (made.flip(0),)

    pipe.unet.forward = forward
    with pytest.raises(ErasureError, match="layers were given other rows"), GrowthInhibitors(pipe, "knife", scale=-3):
        sample(pipe)


@pytest.mark.parametrize("at", [0, 1, 2])
def test_rows_that_change_places_on_the_way(pipe, at):
    def swap(unet, args, kwargs):
        if user.steps_made > at:
            return args, {**kwargs, "encoder_hidden_states": kwargs["encoder_hidden_states"][[1, 0]]}
        return None

    user = GrowthInhibitors(pipe, "knife", scale=-3)
    with pytest.raises(ErasureError, match="other rows"), user:
        pipe.unet.register_forward_pre_hook(swap, with_kwargs=True, prepend=True)
        sample(pipe, num_inference_steps=5)
    assert user.steps_made == at + 1


def test_a_refusal_that_is_caught_on_the_way(pipe):
    """A callback that calls the UNet by itself and goes on where that fails."""

    def call_unet(pipe, step, timestep, tensors):
        with contextlib.suppress(ErasureError):
            pipe.unet(tensors["latents"], timestep, encoder_hidden_states=torch.zeros(1, 77, 24))
        return tensors

    with pytest.raises(ErasureError, match="1 rows for 1 images with"), GrowthInhibitors(pipe, "knife", scale=-3):
        sample(pipe, callback_on_step_end=call_unet)


class NoEncoder(StableDiffusionPipeline):
    """A user's class that encodes its prompts by itself."""

    @torch.no_grad()
    def __call__(self):
        self.unet(torch.zeros(1, 4, 8, 8), 1, encoder_hidden_states=torch.zeros(1, 77, 24))


def test_a_class_that_encodes_by_itself(pipe):
    own = NoEncoder(**pipe.components, requires_safety_checker=False)
    with pytest.raises(ErasureError, match="without encode_prompt"), GrowthInhibitors(own, "knife", scale=-3):
        own()


@pytest.mark.parametrize("part", ["text_encoder", "tokenizer", "unet", "scheduler"])
def test_a_part_that_is_missing(pipe, part):
    setattr(pipe, part, None)
    with pytest.raises(UnsupportedModelError, match=part.split("_")[0]) as error:
        GrowthInhibitors(pipe, "knife")
    assert "\n" not in str(error.value)


def test_a_text_encoder_of_another_model(pipe):
    config = CLIPTextConfig(hidden_size=32, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2)
    pipe.text_encoder = CLIPTextModel(config)
    with pytest.raises(UnsupportedModelError, match="width 32 and its UNet attends to width 24"):
        GrowthInhibitors(pipe, "knife")


def test_fused_projections(pipe):
    """Self-attention's to_q and to_k are never called then: its part of a composition would be left out."""
    plain = sample(pipe)
    trace = Trace()
    with GrowthInhibitors(pipe, "knife", scale=0.0, trace=trace):
        sample(pipe)
    user = GrowthInhibitors(pipe, "knife", scale=-3, composition=trace)
    pipe.fuse_qkv_projections()
    with pytest.raises(UnsupportedModelError, match="unfuse_qkv_projections"):
        GrowthInhibitors(pipe, "knife", scale=-3, composition=trace)
    with pytest.raises(UnsupportedModelError, match="unfuse_qkv_projections"), user:
        sample(pipe)
    with GrowthInhibitors(pipe, "knife", scale=-3):
        fused = sample(pipe)
    pipe.unfuse_qkv_projections()
    with GrowthInhibitors(pipe, "knife", scale=-3):
        torch.testing.assert_close(sample(pipe), fused, atol=1e-4, rtol=1e-4)
    assert (fused - plain).abs().max() > 1e-3


@pytest.mark.parametrize(
    "change",
    [
        lambda pipe: pipe.enable_attention_slicing(1),
        lambda pipe: pipe.enable_freeu(s1=0.9, s2=0.2, b1=1.2, b2=1.4),
        lambda pipe: pipe.unet.set_attn_processor(AttnProcessor()),
        lambda pipe: pipe.unet.enable_gradient_checkpointing(),
        lambda pipe: pipe.unet.to(memory_format=torch.channels_last),
        lambda pipe: accelerate.cpu_offload(pipe.unet, torch.device("cpu")),
        lambda pipe: accelerate.cpu_offload_with_hook(pipe.unet, torch.device("cpu")),
    ],
    ids=["sliced", "freeu", "plain processor", "checkpointing", "channels last", "offloaded by layers", "offloaded"],
)
def test_other_ways_to_run_the_unet(pipe, change):
    change(pipe)
    plain = sample(pipe)
    with GrowthInhibitors(pipe, "knife", scale=0):
        assert torch.equal(sample(pipe), plain)
    with GrowthInhibitors(pipe, "knife", scale=-3) as user:
        erased = sample(pipe)
    assert (erased - plain).abs().max() > 1e-3
    assert user.steps_erased == 3


def test_a_cache_that_skips_the_layers(pipe):
    """As DeepCache does: the UNet's forward answers every second call from what it has kept."""
    inner, kept = pipe.unet.forward, []

    def caching(*args, **kwargs):
        if kept:
            return kept.pop()
        kept.append(inner(*args, **kwargs))
        return kept[0]

    pipe.unet.forward = caching
    with (
        pytest.raises(ErasureError, match=r"0 of the \d cross-attention layers"),
        GrowthInhibitors(pipe, "knife", scale=-3),
    ):
        sample(pipe)


@pytest.mark.parametrize(
    "options",
    [
        {"timesteps": [900, 600, 300, 10]},
        {"guidance_rescale": 0.7},
        {"eta": 1.0},
        {"num_images_per_prompt": 2, "guidance_scale": -4.0},
    ],
    ids=lambda options: next(iter(options)),
)
def test_options_of_a_call(pipe, options):
    if "timesteps" in options:
        pipe.scheduler = LCMScheduler.from_config(pipe.scheduler.config)  # DDIM takes none
    plain = sample(pipe, **options)
    with GrowthInhibitors(pipe, "knife", scale=0):
        assert torch.equal(sample(pipe, **options), plain)
    with GrowthInhibitors(pipe, "knife", scale=-3) as user:
        erased = sample(pipe, **options)
    assert user.steps_erased == user.steps_made == len(options.get("timesteps", [1, 2, 3]))
    assert ((erased - plain).flatten(1).abs().amax(1) > 1e-3).all()
