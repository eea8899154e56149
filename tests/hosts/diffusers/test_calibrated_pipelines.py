"""Calibrations on each class of diffusers' pipelines: they are made of what its calls read, and erase."""

from __future__ import annotations

import pytest
import torch
from diffusers import LCMScheduler
from test_pipeline import build_pipe
from test_pipeline_parts import give_ip_adapter
from tiny_pipelines import CASES, build, call, second_text_encoder, unet

from lib_gie import assets
from lib_gie.core.call import noise_of
from lib_gie.core.concepts import Concept
from lib_gie.core.layers import UNKNOWN, family_of, find_cross_attention
from lib_gie.core.readings import cells
from lib_gie.core.scales.adapter import Adapter, AdapterInfo
from lib_gie.core.scales.calibrated import Calibration, load_calibration, save_calibration
from lib_gie.core.scales.scale_rules import FixedScale, Guarded
from lib_gie.errors import OptionError, UnsupportedModelError
from lib_gie.hosts.diffusers import GrowthInhibitors, calibrating
from lib_gie.hosts.diffusers.calibrating import calibrate_now, kept_calibration
from lib_gie.hosts.diffusers.erased_pipeline import ErasedPipeline
from lib_gie.hosts.diffusers.pair import Sampling, erase_pair
from lib_gie.hosts.diffusers.weights import OF_TENSORS, tensors_digest, weights_digest
from lib_gie.options import ErasureSettings
from lib_gie.training.calibration import MOST_EVALUATIONS
from lib_gie.training.calibration.presence import readings_at

PROMPTS = ["a cat and a knife", "a house"]
KNIFE = Concept("knife")


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """Where calibrations are kept."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # models this small are slower on several
    yield assets.calibrations_folder()
    torch.set_num_threads(threads)


def told(user: GrowthInhibitors) -> list[str]:
    """Its notes but for what calibrations warn of: random models tell nothing."""
    warnings = {getattr(rule.adapter.info, "warning", "") for rule in user.rules if isinstance(rule, Guarded)}
    assert warnings - {""} <= set(user.notes)
    return [note for note in user.notes if note not in warnings]


class Watching:
    """A rule that writes down what it is given, and erases."""

    def __init__(self, size):
        self.readings, self.optional, self.inputs = readings_at(size), (), []

    def scales(self, inputs, rows, tokens):
        self.inputs.append(inputs)
        return torch.full((rows, tokens), -3.0)

    def check_model(self, family, heads):
        pass


def calibrated_inputs(pipe, prompts) -> torch.Tensor:
    """What calibrating reads of prompts, float32 [B, inputs]."""
    maker = calibrating._predictor(pipe)
    found = []
    for reading in readings_at(maker.latent_size):
        noise = noise_of(reading.noise, (1, 4, *reading.size)).expand(len(prompts), -1, -1, -1)  # [B, 4, h, w]
        steps = torch.full((len(prompts),), reading.timestep)
        found.append(cells(maker.predict(noise, steps, prompts)))
    return torch.cat(found, 1)


def read_in_a_call(pipe, prompts, **options) -> torch.Tensor:
    """What a call of the pipeline reads of its prompts, float32 [B, inputs]."""
    rule = Watching(calibrating._predictor(pipe).latent_size)
    with ErasedPipeline(pipe, [KNIFE], [rule], ErasureSettings()):
        call(pipe, prompts, **options)
    assert len(rule.inputs) == 1  # prompts that do not change are read once
    return rule.inputs[0][..., 0]


@pytest.mark.parametrize("guided", [True, False], ids=["guided", "unguided"])
@pytest.mark.parametrize("name", CASES)
def test_a_call_reads_what_calibrating_reads(name, guided):
    """Whatever pictures, sizes and guidance the call is given."""
    pipe, case = build(name), CASES[name]
    expected, found = calibrated_inputs(pipe, PROMPTS), read_in_a_call(pipe, PROMPTS, guided=guided)
    times = (case.rows if guided else case.plain).count("p")  # PAG has each prompt twice
    torch.testing.assert_close(found, expected.repeat(times, 1), atol=1e-4, rtol=1e-4)
    assert (expected[0] - expected[1]).abs().max() > 1e-2  # it tells prompts apart


@pytest.mark.parametrize("name", ["StableDiffusionPipeline", "StableDiffusionXLPipeline"])
def test_a_call_at_another_size_reads_the_same(name):
    pipe = build(name)
    found = read_in_a_call(pipe, PROMPTS, height=96, width=128)
    torch.testing.assert_close(found, calibrated_inputs(pipe, PROMPTS), atol=1e-4, rtol=1e-4)


def test_sdxls_refiner_reads_the_same():
    """It has the second text encoder alone, and is told of an aesthetic score instead of a size."""
    model = unet(True, embedding=24 + 5 * 8)
    parts = {"text_encoder": None, "tokenizer": None, "text_encoder_2": second_text_encoder(24)}
    pipe = build("StableDiffusionXLImg2ImgPipeline", unet=model, requires_aesthetics_score=True, **parts)
    torch.testing.assert_close(read_in_a_call(pipe, PROMPTS), calibrated_inputs(pipe, PROMPTS), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    "name",
    ["StableDiffusionPipeline", "StableDiffusionXLPipeline", "StableDiffusionInpaintPipeline",
     "StableDiffusionImg2ImgPipeline", "StableDiffusionXLControlNetPipeline", "LatentConsistencyModelPipeline"],
)  # fmt: skip
def test_a_concept_is_calibrated_kept_and_erased(name, folder, capsys):
    pipe = build(name)
    plain = call(pipe, PROMPTS)
    with GrowthInhibitors(pipe, "knife", scale="calibrated") as user:
        erased = call(pipe, PROMPTS)
    assert "calibrating knife" in capsys.readouterr().err
    (rule,) = user.rules
    info = rule.adapter.info
    assert info.training["evaluations"] <= MOST_EVALUATIONS
    assert info.weights == weights_digest(pipe)
    named, other = (float(scales[0]) for scales in user.scales)
    assert named == info.strength  # the prompt names it
    assert info.strength <= other <= 0
    assert not torch.equal(erased[0], plain[0])
    assert told(user) == []
    kept = folder / f"knife-calibrated-{info.weights[:8]}.safetensors"
    assert load_calibration(kept).weights_digest == rule.adapter.weights_digest
    with GrowthInhibitors(pipe, "Knife", scale="calibrated") as user:  # taken from there
        assert torch.equal(call(pipe, PROMPTS), erased)
    assert "calibrating" not in capsys.readouterr().err


def test_half_precision():
    """Half precision on the CPU is bfloat16: its convolutions take no float16."""
    pipe = build("StableDiffusionXLPipeline").to(torch.bfloat16)
    try:
        with GrowthInhibitors(pipe, "knife", scale="calibrated") as user:
            erased = call(pipe, PROMPTS)
    finally:
        pipe.to(torch.float32)  # its text encoders are shared
    assert torch.isfinite(erased).all()
    assert float(user.scales[0][0]) == user.rules[0].adapter.info.strength
    assert user.rules[0].adapter.info.strength <= float(user.scales[1][0]) <= 0


# -- whose weights ------------------------------------------------


def test_the_digest_is_the_weights_own():
    pipe, other = build_pipe(), build_pipe()
    digest = weights_digest(pipe)
    assert digest.startswith(OF_TENSORS)
    assert digest == weights_digest(other)
    pipe.unet.to(memory_format=torch.channels_last)
    assert not pipe.unet.conv_in.weight.is_contiguous()
    assert digest == weights_digest(pipe)
    pipe.to(torch.float16)
    assert digest == weights_digest(pipe)
    with torch.no_grad():
        find_cross_attention(other.unet)[0].to_v.weight += 0.1
    assert digest != weights_digest(other)


def edited(part: str, names: str) -> str:
    """The digest after one value in 500 of each of these tensors was changed."""
    pipe = build_pipe()
    chosen = [weight for name, weight in getattr(pipe, part).named_parameters() if names in name]
    assert chosen
    with torch.no_grad():
        for weight in chosen:
            weight.view(-1)[::500] += 0.1
    return weights_digest(pipe)


@pytest.mark.parametrize(
    ("part", "names"),
    [("unet", "conv_in.bias"), ("unet", "resnets.0.conv1.weight"), ("unet", "attn1.to_q.weight"),
     ("unet", "time_embedding"), ("unet", "conv_norm_out"), ("text_encoder", "position_embedding"),
     ("text_encoder", "token_embedding"), ("text_encoder", "fc1"), ("text_encoder", "final_layer_norm")],
)  # fmt: skip
def test_every_layer_counts(part, names):
    assert edited(part, names) != weights_digest(build_pipe())


def test_a_shape_counts():
    """Two tensors of the same values."""
    pipe, other = build_pipe(), build_pipe()
    for one, shape in ((pipe, (2, 8)), (other, (4, 4))):
        one.unet.register_parameter("more", torch.nn.Parameter(torch.ones(shape)))
    assert weights_digest(pipe) != weights_digest(other)


def test_what_is_loaded_beside_the_weights_does_not_count():
    """A textual inversion, and an IP-Adapter: calibrations that were made before serve with them."""
    pipe = build_pipe()
    digest, count = weights_digest(pipe), len(pipe.tokenizer)
    pipe.tokenizer.add_tokens(["gietest"])
    pipe.text_encoder.resize_token_embeddings(count + 1)
    give_ip_adapter(pipe)
    assert weights_digest(pipe) == digest


def test_the_digest_of_a_checkpoints_file_is_that_of_its_weights(tmp_path):
    """As of the pipeline that it is saved from and loaded to."""
    pipe = build_pipe()
    pipe.save_pretrained(tmp_path)
    assert weights_digest(type(pipe).from_pretrained(tmp_path)) == weights_digest(pipe)


def test_the_digest_of_weights_that_are_moved_away_after_each_layer():
    import accelerate

    pipe = build_pipe()
    digest = tensors_digest(pipe)
    accelerate.cpu_offload(pipe.unet, execution_device=torch.device("cpu"))
    assert all(weight.is_meta for weight in pipe.unet.parameters())
    assert tensors_digest(pipe) == digest


def test_a_calibration_of_other_weights_is_told_of(tmp_path):
    pipe, other = build_pipe(), build_pipe()
    made = calibrate_now(pipe, KNIFE).calibration
    with torch.no_grad():
        find_cross_attention(other.unet)[0].to_v.weight += 0.1
    path = tmp_path / "mine.safetensors"
    save_calibration(made, path)
    assert kept_calibration(other, KNIFE) is None
    assert told(GrowthInhibitors(pipe, "knife", adapter=path)) == []
    (note,) = told(GrowthInhibitors(other, "knife", adapter=path))
    assert "was made on the weights" in note
    assert note in GrowthInhibitors(other, "knife", adapter=made).notes


# -- rules ------------------------------------------------


def test_each_concept_has_its_own_rule(tmp_path):
    pipe = build_pipe()
    calibrated = calibrate_now(pipe, KNIFE).calibration
    rules = [calibrated, FixedScale(-2.5)]
    with GrowthInhibitors(pipe, "knife, red wine:0.5", adapter=rules) as user:
        call(pipe, PROMPTS)
    assert isinstance(user.rules[0], Guarded)
    assert user.rules[0].fixed == calibrated.info.strength
    assert [float(scales[0]) for scales in user.scales[0]] == [calibrated.info.strength, -1.25]
    by_text = {"Red Wine": FixedScale(-2.5), "knife": calibrated}
    with GrowthInhibitors(pipe, "knife, red wine:0.5", adapter=by_text) as again:
        call(pipe, PROMPTS)
    assert all(torch.equal(a, b) for a, b in zip(user.scales[0], again.scales[0], strict=True))


def test_what_is_said_of_each_rule():
    pipe = build_pipe()
    layers = find_cross_attention(pipe.unet)
    adapter = Adapter(AdapterInfo(family_of(layers), len(layers), ("beer",), (-9.0, 0.0))).eval()
    calibrated = calibrate_now(pipe, KNIFE).calibration
    notes = told(GrowthInhibitors(pipe, "knife, wine", adapter=[calibrated, adapter]))
    assert "the adapter was fitted for beer, not for 'wine'" in notes
    assert not any("knife" in note for note in notes)
    assert (
        "the calibration was fitted for knife, not for 'wine'"
        in GrowthInhibitors(pipe, "wine", adapter=calibrated).notes
    )


def test_a_clip_skip_is_told_of(monkeypatch):
    pipe = build_pipe()
    if not hasattr(pipe.text_encoder, "text_model"):  # diffusers asks for it, transformers 5 has it no more
        monkeypatch.setattr(type(pipe.text_encoder), "text_model", property(lambda own: own), raising=False)
    with GrowthInhibitors(pipe, "knife", scale="calibrated") as user:
        call(pipe, PROMPTS)
        assert told(user) == []
        call(pipe, PROMPTS, clip_skip=1)
    (note,) = told(user)
    assert note.startswith("'knife' was calibrated with all of the text encoder's layers, and this call leaves out")
    assert float(user.scales[0][0]) == 2 * user.rules[0].fixed


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"scale": "strong"}, "it must be a number, or 'calibrated'"),
        ({"scale": "calibrated", "adapter": FixedScale(-1)}, "both a scale and an adapter"),
        ({"scale": "calibrated", "rule": "value projection"}, "calibrations are made for growth inhibitors"),
        ({"adapter": [FixedScale(-1)]}, "1 rules for 2 concepts"),
        ({"adapter": {"knife": FixedScale(-1)}}, "rules for 'knife', and the concepts are 'knife', 'wine'"),
        ({"adapter": {"knife": FixedScale(-1), "beer": FixedScale(-1)}}, "give one for each"),
        ({"adapter": {"knife": FixedScale(-1), "wine": FixedScale(-1), "Wine": FixedScale(-1)}}, "give one for each"),
    ],
)
def test_other_rules_than_concepts_are_refused(options, says, folder):
    with pytest.raises(OptionError, match=says):
        GrowthInhibitors(build_pipe(), "knife, wine", **options)
    assert not folder.exists()  # nothing was calibrated


def test_a_pair_calibrates_once(monkeypatch):
    pipe, made = build_pipe(), []
    monkeypatch.setattr(calibrating, "calibrations_folder", lambda: assets.Path("/proc/nothing"))  # keeps nothing
    inner = calibrating.calibrate
    monkeypatch.setattr(calibrating, "calibrate", lambda *args, **kwargs: made.append(args) or inner(*args, **kwargs))
    pair = erase_pair(pipe, "a knife", "knife", Sampling(2, 4.0), scale="calibrated")
    assert len(made) == 1
    assert pair.eraser.rules == pair.watched.rules
    assert float(pair.eraser.scales[0][0]) == pair.eraser.rules[0].fixed


# -- what cannot be calibrated, and interruptions ------------------------------------------------


def test_an_interrupted_calibration_goes_on(folder, monkeypatch, capsys):
    pipe = build_pipe()
    inner, calls = calibrating.PipelinePredictor.predict, []

    def predict(self, *args, **kwargs):
        calls.append(len(args[0]))
        if len(calls) == 5:
            raise KeyboardInterrupt
        return inner(self, *args, **kwargs)

    monkeypatch.setattr(calibrating.PipelinePredictor, "predict", predict)
    with pytest.raises(KeyboardInterrupt, match="the next try goes on from there"):
        calibrate_now(pipe, KNIFE)
    (neutral,) = folder.iterdir()
    assert neutral.name.startswith("neutral-")
    calls[:] = [0] * 5
    capsys.readouterr()
    resumed = calibrate_now(pipe, KNIFE).calibration
    assert "/920 " in capsys.readouterr().err  # UNet evaluations
    calls[:] = [0] * 5
    neutral.unlink()
    whole = calibrate_now(pipe, KNIFE).calibration
    assert "/984 " in capsys.readouterr().err  # two batches of 32 prompts, two readings each, had been read
    assert resumed.info.ramp == whole.info.ramp
    assert torch.equal(resumed.discriminant.direction, whole.discriminant.direction)


def test_a_folder_that_takes_nothing(monkeypatch):
    monkeypatch.setattr(calibrating, "calibrations_folder", lambda: assets.Path("/proc/nothing"))
    made = calibrate_now(build_pipe(), KNIFE)
    assert made.path is None
    assert "cannot be made" in made.reason
    assert isinstance(made.calibration, Calibration)


def test_an_ip_adapter_must_come_later():
    pipe = build_pipe()
    pipe.unet.register_to_config(encoder_hid_dim_type="ip_image_proj")
    with pytest.raises(UnsupportedModelError, match="before it is loaded"):
        calibrate_now(pipe, KNIFE)


def test_a_scheduler_without_a_noise_schedule():
    pipe = build_pipe()
    pipe.scheduler = type("Flow", (), {"config": {}})()
    with pytest.raises(UnsupportedModelError, match="Flow has no alphas_cumprod"):
        _ = calibrating._predictor(pipe).alphas_cumprod


def test_a_schedule_that_ends_in_pure_noise():
    pipe = build_pipe()
    pipe.scheduler = LCMScheduler(rescale_betas_zero_snr=True)
    assert float(pipe.scheduler.alphas_cumprod[-1]) == 0
    assert float(calibrating._predictor(pipe).alphas_cumprod[-1]) > 0
    assert family_of(find_cross_attention(pipe.unet)) != UNKNOWN
