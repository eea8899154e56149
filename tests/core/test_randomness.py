"""Nothing here draws from the global random numbers: images whose sampler does are the same with and without it."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from test_pipeline import build_pipe
from tiny import BUILDERS, make_batch

from lib_gie.core.composition import Trace
from lib_gie.core.concepts import Concept
from lib_gie.core.encoding import EncodedConcept
from lib_gie.core.erasure import Erasure, Target
from lib_gie.core.recorder import Reading
from lib_gie.core.scales.adapter import Adapter, AdapterInfo, load_adapter, read_header, save_adapter
from lib_gie.core.session import attach, read_attention
from lib_gie.demo.world.detector import look_at_picture
from lib_gie.evaluation.bench.layer_ways import make_case
from lib_gie.evaluation.bench.unets import SIZES, build_bench_unet
from lib_gie.hosts.diffusers import GrowthInhibitors, load_pipeline
from lib_gie.hosts.diffusers.image_maker import PipelineImageMaker
from lib_gie.hosts.library import adapter_for, list_adapters
from lib_gie.pictures import attention_map, overlay
from lib_gie.randomness import undrawn
from lib_gie.training.fitting import Example, Recipe, fit

MODELS = Path(__file__).resolve().parents[2] / "models"
KNIFE = MODELS / "demo-knife.safetensors"


def _states() -> tuple:
    return torch.get_rng_state().numpy().tobytes(), str(np.random.get_state()), random.getstate()


@contextmanager
def watched(what: str = "") -> Iterator[None]:
    """The three generators' states are the same afterwards."""
    before = _states()
    yield
    assert _states() == before, f"{what} has drawn"


@pytest.fixture(scope="module")
def pipe():
    return load_pipeline()


def test_what_is_drawn_within_is_undone():
    torch.manual_seed(3), np.random.seed(3), random.seed(3)
    expected = torch.rand(2), np.random.rand(2), random.random()
    torch.manual_seed(3), np.random.seed(3), random.seed(3)
    with undrawn():
        torch.rand(5), np.random.rand(5), random.random(), torch.manual_seed(8)
    found = torch.rand(2), np.random.rand(2), random.random()
    assert torch.equal(found[0], expected[0])
    assert np.array_equal(found[1], expected[1])
    assert found[2] == expected[2]


def test_the_watch_sees_a_draw():
    for draw in (lambda: torch.rand(1), np.random.rand, random.random, lambda: torch.nn.Linear(2, 2)):
        with pytest.raises(AssertionError, match="has drawn"), watched():
            draw()


def _a_new_adapter(folder: Path) -> None:
    save_adapter(Adapter(AdapterInfo("sd1", 16, ("knife",), (-5.0, 0.0))), folder / "new.safetensors")


ALONE: dict[str, Callable[[Path], object]] = {
    "a new adapter": _a_new_adapter,
    "an adapter's file": lambda folder: load_adapter(KNIFE),
    "an adapter's header": lambda folder: read_header(KNIFE),
    "the list of adapters": lambda folder: list_adapters([MODELS]),
    "the choice of an adapter": lambda folder: adapter_for("knife", "gie-demo", [8] * 16, [MODELS]),
    "a pipeline": lambda folder: load_pipeline(),
    "a UNet to measure on": lambda folder: build_bench_unet(SIZES["demo"], torch.device("cpu")),
    "a layer to measure on": lambda folder: make_case(torch.device("cpu"), 64, 32, 2),
    "a fit": lambda folder: fit(
        "tiny", ["knife"], [Example(f"prompt {k}", -k / 10, torch.full((4, 1), k / 20)) for k in range(60)], Recipe(5)
    ),
}


@pytest.mark.parametrize("what", ALONE)
def test_nothing_is_drawn(what, tmp_path):
    with watched(what):
        ALONE[what](tmp_path)


@pytest.mark.parametrize("concept_pass", ["fused", "separate"])
def test_the_core_draws_nothing(concept_pass):
    unet, batch = BUILDERS["ldm"](), make_batch()
    encoded = EncodedConcept(Concept("knife"), batch.context[0], ["knife"])
    with watched("the core"), torch.no_grad():
        adapter = Adapter(AdapterInfo("width-24", 7, ("knife",), (-19.0, 0.0)))
        erasure = Erasure([Target(encoded, adapter)], concept_pass=concept_pass)
        with attach(unet.module, erasure):
            erasure.begin([0, 1, None, None], 0.0)
            unet(*batch.arguments)
        read_attention(unet.module, [encoded], Reading(True, 3), batch.arguments)


def test_sampling_draws_nothing(pipe):
    """Every image has a generator of its own here, so whatever was drawn would be ours."""
    trace = Trace()
    with watched("sampling"):
        with GrowthInhibitors(pipe, "knife, wine", adapter=KNIFE, strength=0.0, record=True, trace=trace) as watching:
            _sample(pipe, torch.Generator().manual_seed(1))
        with GrowthInhibitors(pipe, "knife, wine", adapter=KNIFE, composition=trace):
            image = _sample(pipe, torch.Generator().manual_seed(1))
        overlay(image, attention_map(watching.recorder, 0, 0, *image.size))
        look_at_picture(image)


def test_labelling_draws_nothing(pipe):
    host = PipelineImageMaker(pipe, "gie-demo", name="demo", steps=2, cfg=4.0, size=(64, 64))
    with watched("labelling"):
        made = host.make(["a knife"], [1], "knife", torch.tensor([-1.0]))
        host.read(["a knife"], ["knife"], (Reading(True, 3),))
        host.predict(made.latents, torch.tensor([500]), ["a knife"], "knife", torch.tensor([-1.0]))


def _sample(pipe, generator=None):
    return pipe(
        "a cat and a knife", num_inference_steps=3, guidance_scale=4.0, width=64, height=64, generator=generator
    ).images[0]


@pytest.mark.parametrize("options", [{"adapter": KNIFE, "strength": 0.0}, {"scale": 0.0}])
def test_strength_zero_is_plain_without_a_generator_of_its_own(pipe, options):
    torch.manual_seed(5)
    plain = np.asarray(_sample(pipe))
    torch.manual_seed(5)
    with GrowthInhibitors(pipe, "knife", **options):
        assert np.array_equal(np.asarray(_sample(pipe)), plain)


def test_an_adapter_read_between_two_images_changes_nothing(pipe):
    torch.manual_seed(5)
    _sample(pipe)
    expected = np.asarray(_sample(pipe))
    torch.manual_seed(5)
    _sample(pipe)
    load_adapter(KNIFE)
    assert np.array_equal(np.asarray(_sample(pipe)), expected)


def test_the_same_on_a_pipeline_that_draws_in_every_step():
    from diffusers import EulerAncestralDiscreteScheduler

    pipe = build_pipe()
    pipe.scheduler = EulerAncestralDiscreteScheduler.from_config(pipe.scheduler.config)
    torch.manual_seed(5)
    plain = pipe("a knife", num_inference_steps=3, output_type="np").images
    torch.manual_seed(5)
    with GrowthInhibitors(pipe, "knife", scale=-3.0, strength=0.0, concept_pass="separate"):
        assert np.array_equal(pipe("a knife", num_inference_steps=3, output_type="np").images, plain)
