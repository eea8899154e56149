"""The erasing rules on the demo model, by the objects that its images show."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lib_gie.assets import DEMO_CHECKPOINT
from lib_gie.core.rules import RULES
from lib_gie.demo.world.detector import look
from lib_gie.errors import OptionError
from lib_gie.hosts.diffusers import GrowthInhibitors, load_pipeline

NAMED, OTHER = "a knife on a blue background", "a dog on a red background"
IMAGES, STEPS = 4, 16


@pytest.fixture(scope="module")
def pipe():
    found = load_pipeline(DEMO_CHECKPOINT)
    found.set_progress_bar_config(disable=True)
    return found


def images(pipe, prompt) -> torch.Tensor:
    """[images, 3, 64, 64], 0 to 1."""
    generators = [torch.Generator().manual_seed(seed) for seed in range(IMAGES)]
    found = pipe(
        [prompt] * IMAGES, width=64, height=64, num_inference_steps=STEPS, guidance_scale=4.0, generator=generators,
        output_type="np",
    ).images  # fmt: skip
    return torch.from_numpy(np.asarray(found)).permute(0, 3, 1, 2).float()


def seen(pictures) -> list[frozenset[str]]:
    return [look(picture).objects for picture in pictures]


@pytest.mark.parametrize("rule", RULES)
def test_a_named_object_is_gone(pipe, rule):
    before = seen(images(pipe, NAMED))
    assert sum("knife" in names for names in before) >= IMAGES - 1
    with GrowthInhibitors(pipe, "knife", rule=rule) as erasing:
        after = seen(images(pipe, NAMED))
    assert not any("knife" in names for names in after)
    assert erasing.scales[0][0].unique().tolist() == [{"growth inhibitors": -3.0, "value projection": -1.0}[rule]]


def test_value_projection_leaves_images_of_other_things_as_they_are(pipe):
    """No token of the prompt is like the concept, so next to nothing is taken out: growth inhibitors change more."""
    before, found = images(pipe, OTHER), {}
    for rule in RULES:
        with GrowthInhibitors(pipe, "knife", rule=rule):
            found[rule] = float((images(pipe, OTHER) - before).abs().mean())
    assert found["value projection"] < 0.01 < found["growth inhibitors"]


def test_bad_choices_are_refused_at_once(pipe):
    with pytest.raises(OptionError, match="rule is 'projection'"):
        GrowthInhibitors(pipe, "knife", rule="projection")
    with pytest.raises(OptionError, match="adapters are fitted on growth inhibitors"):
        GrowthInhibitors(
            pipe, "knife", rule="value projection", adapter=DEMO_CHECKPOINT.parents[1] / "demo-knife.safetensors"
        )
