"""What pipelines can be given beside a prompt: adapters, ControlNets, a refiner, other pipelines' models."""

from __future__ import annotations

import inspect

import diffusers
import pytest
import torch
from diffusers import AutoPipelineForImage2Image, AutoPipelineForText2Image
from test_pipeline_classes import PROMPTS, Calls, adapter_for, one_thread  # noqa: F401
from tiny_pipelines import CASES, WIDTH, build, call, picture, second_text_encoder, unet

from lib_gie.core.composition import Trace
from lib_gie.errors import ErasureError, OptionError, UnsupportedModelError
from lib_gie.hosts.diffusers import GrowthInhibitors

XL = ("StableDiffusionPipeline", "StableDiffusionXLPipeline")


def give_ip_adapter(pipe, tokens: int = 4, width: int = 16) -> dict:
    """Put an IP-Adapter of random weights in; what a call needs of its picture."""
    generator = torch.Generator().manual_seed(7)

    def random(*shape):
        return torch.randn(shape, generator=generator)

    layers = {}
    for number, name in enumerate(pipe.unet.attn_processors):
        if not name.endswith("attn2.processor"):
            continue
        hidden = pipe.unet.get_submodule(name.removesuffix(".processor")).to_k.out_features
        layers |= {f"{number}.to_{part}_ip.weight": random(hidden, WIDTH) for part in "kv"}
    image = {
        "proj.weight": random(tokens * WIDTH, width),
        "proj.bias": random(tokens * WIDTH),
        "norm.weight": torch.ones(WIDTH),
        "norm.bias": torch.zeros(WIDTH),
    }
    pipe.unet._load_ip_adapter_weights([{"image_proj": image, "ip_adapter": layers}])
    return {"ip_adapter_image_embeds": [random(2, 1, width)]}


@pytest.mark.parametrize("concept_pass", ["fused", "separate"])
@pytest.mark.parametrize("name", XL)
def test_ip_adapter(name, concept_pass):
    """The prompt's attention is erased from as ever; the picture's own is added to it as ever."""
    pipe = build(name)
    options = give_ip_adapter(pipe)
    plain = call(pipe, PROMPTS, **options)
    with GrowthInhibitors(pipe, "knife", scale=-3, strength=0.0):
        assert torch.equal(call(pipe, PROMPTS, **options), plain)
    user = GrowthInhibitors(pipe, "knife", adapter=adapter_for(pipe), concept_pass=concept_pass)
    with user, Calls(pipe.unet) as seen:
        erased = call(pipe, PROMPTS, **options)
    assert seen.changed_rows() == [[False, False, True, True]] * 3
    assert ((erased - plain).flatten(1).abs().amax(1) > 1e-3).all()


def kept(pipe, prompts, **options):
    """Latents without erasure, and with it and the composition kept."""
    trace = Trace()
    with GrowthInhibitors(pipe, "knife, wine", scale=0.0, trace=trace):
        before = call(pipe, prompts, **options)
    with GrowthInhibitors(pipe, "knife, wine", scale=-3, composition=trace, concept_pass="separate"):
        return before, call(pipe, prompts, **options)


@pytest.mark.parametrize(
    "name",
    ["StableDiffusionAdapterPipeline", "StableDiffusionXLAdapterPipeline", "StableDiffusionXLControlNetPipeline",
     "StableDiffusionInstructPix2PixPipeline", "StableDiffusionUpscalePipeline", "LatentConsistencyModelPipeline"],
)  # fmt: skip
def test_kept_composition(name):
    pipe = build(name)
    plain = call(pipe, PROMPTS)
    before, after = kept(pipe, PROMPTS)
    assert torch.equal(before, plain)
    assert torch.equal(kept(pipe, PROMPTS)[1], after)
    with GrowthInhibitors(pipe, "knife, wine", scale=-3, concept_pass="separate"):
        assert not torch.equal(call(pipe, PROMPTS), after)


def test_every_call_of_its_own_has_all_of_a_t2i_adapters_pictures():
    """diffusers' UNet takes them out of the list that it is given: the next call must have a list of its own."""
    pipe = build("StableDiffusionAdapterPipeline")
    lengths = []

    def note(unet, args, kwargs):
        lengths.append(len(kwargs["down_intrablock_additional_residuals"]))

    pipe.unet.register_forward_pre_hook(note, with_kwargs=True)
    kept(pipe, PROMPTS)
    assert len(lengths) == 3 + 3 * (
        1 + 2 + 1
    )  # the unerased image's; each step's own, two concepts', the other image's
    assert set(lengths) == {2}


def refiner(**parts):
    """SDXL's refiner: its second text encoder alone, and one number less in its conditioning."""
    model = unet(True, embedding=WIDTH + 5 * 8)
    found = {
        "unet": model, "text_encoder": None, "tokenizer": None, "text_encoder_2": second_text_encoder(WIDTH),
        "requires_aesthetics_score": True,
    }  # fmt: skip
    return build("StableDiffusionXLImg2ImgPipeline", **{**found, **parts})


def test_refiner():
    pipe = refiner()
    plain = call(pipe, PROMPTS)
    with GrowthInhibitors(pipe, "knife", scale=-3), Calls(pipe.unet) as seen:
        erased = call(pipe, PROMPTS)
    assert seen.changed_rows() == [[False, False, True, True]] * 2
    assert ((erased - plain).flatten(1).abs().amax(1) > 1e-5).all()


def test_base_and_refiner():
    """SDXL's ensemble: each makes its part of the steps; start and end count a pipeline's own."""
    base, second = build("StableDiffusionXLPipeline"), refiner()
    for denoised, steps in ((None, [5, 10]), (0.5, [2, 5])):
        with GrowthInhibitors(base, "knife", scale=-3, start=0.5) as user:
            latents = call(base, PROMPTS, steps=10, denoising_end=denoised)
        assert [user.steps_erased, user.steps_made] == steps
    with GrowthInhibitors(second, "knife", scale=-3, end=0.5) as user:
        call(second, PROMPTS, steps=10, denoising_start=0.5, image=latents)
    assert user.steps_made == 5
    assert user.steps_erased == 3


TRUNCATED = [
    name for name in CASES if "denoising_end" in inspect.signature(getattr(diffusers, name).__call__).parameters
]


@pytest.mark.parametrize("name", TRUNCATED)
def test_denoising_end(name):
    pipe = build(name)
    options = {"strength": 1.0} if "strength" in CASES[name].options else {}
    for end, injected in ((1.0, 5), (0.5, 3)):
        with GrowthInhibitors(pipe, "knife", scale=-3, end=end) as user:
            call(pipe, PROMPTS, steps=10, denoising_end=0.5, **options)
        assert [user.steps_erased, user.steps_made] == [injected, 5]


def test_a_start_that_no_step_of_a_shortened_sampling_has():
    pipe = build("StableDiffusionXLControlNetPipeline")
    user = GrowthInhibitors(pipe, "knife", scale=-3, start=0.9)
    with pytest.raises(ErasureError, match="lies between start and end"), user:
        call(pipe, PROMPTS, steps=10, denoising_end=0.5)


def test_without_an_encoder():
    for missing in ("text_encoder", "text_encoder_2"):
        pipe = build("StableDiffusionXLPipeline", **{missing: None})
        with pytest.raises(UnsupportedModelError, match=f"; {missing} is missing") as error:
            GrowthInhibitors(pipe, "knife")
        assert "\n" not in str(error.value)
    pipe = build("StableDiffusionXLPipeline", text_encoder=None, text_encoder_2=None)
    with pytest.raises(UnsupportedModelError, match="loaded without text_encoder and text_encoder_2"):
        GrowthInhibitors(pipe, "knife")


def test_projected_states():
    pipe = build("StableDiffusionPipeline", unet=unet(encoder_hid_dim=WIDTH, encoder_hid_dim_type="text_proj"))
    with pytest.raises(UnsupportedModelError, match="projects the prompt's states"):
        GrowthInhibitors(pipe, "knife")


def test_normalised_states():
    model = unet()
    layer = model.mid_block.attentions[0].transformer_blocks[0].attn2
    layer.norm_cross = torch.nn.LayerNorm(WIDTH)
    with pytest.raises(UnsupportedModelError, match="normalises the prompt's states"):
        GrowthInhibitors(build("StableDiffusionPipeline", unet=model), "knife")


def test_auto_pipelines():
    for name in XL:
        pipe = AutoPipelineForText2Image.from_pipe(build(name))
        with GrowthInhibitors(pipe, "knife", scale=-3):
            expected = call(pipe, PROMPTS)
        other = AutoPipelineForImage2Image.from_pipe(pipe)
        other.set_progress_bar_config(disable=True)
        with GrowthInhibitors(pipe, "knife", scale=-3), GrowthInhibitors(other, "knife", scale=-3) as user:
            assert AutoPipelineForImage2Image.from_pipe(pipe).__class__ is type(other)
            assert torch.equal(call(pipe, PROMPTS), expected)
            other(PROMPTS, image=[picture()] * 2, num_inference_steps=4, strength=0.5, output_type="latent")
        assert user.steps_erased == 2


def test_perturbed_attention_keeps_no_composition():
    pipe = build("StableDiffusionPAGPipeline")
    with pytest.raises(OptionError, match="perturbs the attention"):
        GrowthInhibitors(pipe, "knife", trace=Trace())


@pytest.mark.parametrize("guided", [True, False])
def test_perturbed_attention_switched_off(guided):
    pipe = build("StableDiffusionPAGPipeline")
    with GrowthInhibitors(pipe, "knife", scale=-3), Calls(pipe.unet) as seen:
        call(pipe, PROMPTS, guided=guided, pag_scale=0.0)
    assert seen.changed_rows() == [[False] * 2 * guided + [True] * 2] * 3


def test_guess_mode():
    pipe = build("StableDiffusionControlNetPipeline")
    with GrowthInhibitors(pipe, "knife", scale=-3), Calls(pipe.unet) as seen:
        call(pipe, PROMPTS, guess_mode=True)
    assert seen.changed_rows() == [[False, False, True, True]] * 3


def test_safety_checker_sees_erased_images():
    pipe = build("StableDiffusionPipeline")
    pipe.run_safety_checker = lambda image, device, dtype: (image, [False] * len(image))
    with GrowthInhibitors(pipe, "knife", scale=-3):
        call(pipe, PROMPTS, output_type="np")


def test_a_later_class_of_diffusers_is_refused():
    """Its rows are unknown, also where it is a kind of a known one."""

    class Later(diffusers.StableDiffusionPipeline):
        def __call__(self):
            raise AssertionError("never called")

    Later.__module__ = Later.__call__.__module__ = "diffusers.pipelines.later"
    with pytest.raises(UnsupportedModelError, match="not known which rows"):
        GrowthInhibitors(Later.__new__(Later), "knife")
