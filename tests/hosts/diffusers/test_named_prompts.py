"""Prompts of diffusers pipelines that name the concept: a fixed scale is the least then."""

from __future__ import annotations

import pytest
import torch
from test_pipeline import build_pipe

from lib_gie.core.layers import find_cross_attention
from lib_gie.core.recorder import Reading
from lib_gie.core.scales.adapter import Adapter, AdapterInfo
from lib_gie.core.scales.input_range import fit_range
from lib_gie.hosts.diffusers import GrowthInhibitors
from lib_gie.options import DEFAULT_SCALE


@pytest.fixture(scope="module")
def pipe():
    found = build_pipe()
    found.set_progress_bar_config(disable=True)
    return found


def silent(pipe) -> Adapter:
    """It always says 0, and everything is like its training."""
    inputs = sum(layer.heads for layer in find_cross_attention(pipe.unet))
    adapter = Adapter(AdapterInfo("width-24", inputs, ("knife",), (-9.0, 0.0), Reading(True, 3))).eval()
    with torch.no_grad():
        for value in adapter.parameters():
            value.zero_()
    wide = torch.rand(60, inputs, generator=torch.Generator().manual_seed(0)) * 20 - 10
    adapter.range = fit_range(wide[:40], wide[40:])
    return adapter


def scales(pipe, **call) -> tuple[list[float], list[str]]:
    """w of each image for the concept knife, and what is noted."""
    with GrowthInhibitors(pipe, "knife", adapter=silent(pipe)) as erasure:
        pipe(num_inference_steps=1, width=64, height=64, output_type="latent", **call)
    return [float(concepts[0]) for concepts in erasure.scales], erasure.notes


def test_prompts_that_name_the_concept(pipe):
    found, notes = scales(pipe, prompt=["a cat", "a Knife", "a penknife on blue"])
    assert found == [0.0, DEFAULT_SCALE, DEFAULT_SCALE]  # the last one's tokens are pen and knife
    assert [note.partition(":")[0] for note in notes] == ["image 2, 'knife'", "image 3, 'knife'"]
    assert notes[0].endswith("the prompt names the concept")


def test_several_images_of_each_prompt(pipe):
    assert scales(pipe, prompt=["a knife", "a cat"], num_images_per_prompt=2)[0] == [DEFAULT_SCALE] * 2 + [0.0] * 2
    assert scales(pipe, prompt="a cat", num_images_per_prompt=2) == ([0.0] * 2, [])


def test_embeddings_alone_may_name_everything(pipe):
    with torch.no_grad():
        states, empty = pipe.encode_prompt("a cat", "cpu", 1, True)
    assert scales(pipe, prompt_embeds=states, negative_prompt_embeds=empty)[0] == [DEFAULT_SCALE]


def test_what_is_to_be_known_of_an_adapter(pipe):
    adapter = silent(pipe)
    adapter.range = None
    foreign, old = GrowthInhibitors(pipe, "knife, wine", adapter=adapter).notes
    assert "fitted for knife, not for 'wine'" in foreign
    assert "does not say what it was fitted on" in old


def test_another_rule_is_taken_as_it_is(pipe):
    """Only adapters are guarded: an own rule may know more."""
    adapter = silent(pipe)

    class Own:
        readings, optional = adapter.readings, adapter.optional
        scales, check_model = adapter.scales, adapter.check_model

    with GrowthInhibitors(pipe, "knife", adapter=Own()) as erasure:
        pipe("a knife", num_inference_steps=1, width=64, height=64, output_type="latent")
    assert float(erasure.scales[0][0]) == 0
    assert erasure.notes == []
