"""The host in docs/EXTENDING.md: its code is taken from the page and run on the demo model."""

from __future__ import annotations

import contextlib

import not_run
import pytest
import torch
from pages import EXTENDING, python_in, section_of

from lib_gie.errors import ErasureError
from lib_gie.hosts.protocol import SamplingHost

PROMPTS = ["a cat and a knife on a blue background", "a dog"]


@pytest.fixture(scope="module")
def host():
    """The page's host with the demo model's parts."""
    pytest.importorskip("diffusers", reason=not_run.DIFFUSERS)
    found: dict = {}
    for block in python_in(section_of(EXTENDING, "A host")):
        exec(block, found)
    assert found["latents"].shape == (1, 4, 8, 8)
    return found["host"]


@pytest.fixture
def predictions(host):
    """What the UNet gives in each call, [rows, 4, h, w]."""
    found: list[torch.Tensor] = []
    handle = host.unet.register_forward_hook(lambda unet, args, output: found.append(output.sample))
    yield found
    handle.remove()


def test_it_is_a_host(host):
    assert isinstance(host, SamplingHost)


def test_images_change_and_nothing_stays_behind(host):
    off = host.sample(PROMPTS, seed=1)
    on = host.sample(PROMPTS, seed=1, concepts="knife, wine:0.5", scale=-3.0)
    assert (on - off).abs().amax((1, 2, 3)).min() > 1e-3
    assert torch.equal(host.sample(PROMPTS, seed=1), off)


def test_at_scale_0_images_stay_bit_identical(host):
    assert torch.equal(host.sample(PROMPTS, seed=1, concepts="knife", scale=0.0), host.sample(PROMPTS, seed=1))


def test_unconditional_rows_stay_bit_identical(host, predictions):
    host.sample(PROMPTS, seed=1, steps=1)
    host.sample(PROMPTS, seed=1, steps=1, concepts="knife", scale=-3.0)
    off, on = predictions
    assert torch.equal(on[:2], off[:2])
    assert (on[2:] - off[2:]).abs().max() > 1e-3


def test_a_call_that_no_step_announced_ends_the_sampling(host):
    """An extension that calls the UNet once more does not get away with it, even where it swallows the error."""

    def call_before(unet, args):
        handle.remove()
        for _ in range(2):
            with contextlib.suppress(ErasureError):
                unet(args[0], args[1], host.states(["", "", *PROMPTS]))

    handle = host.unet.register_forward_pre_hook(call_before)
    with pytest.raises(ErasureError, match="no sampling step announced"):
        host.sample(PROMPTS, seed=1, concepts="knife")
