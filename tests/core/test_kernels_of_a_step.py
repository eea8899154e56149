"""What a step asks of the device, counted on a UNet without numbers: few kernels, and nothing that is waited for."""

from __future__ import annotations

from contextlib import nullcontext

import pytest
import torch
from test_algorithm import PerImage
from tiny import BUILDERS, Batch, make_batch, make_concept

from lib_gie.core.arithmetic import few_kernels
from lib_gie.core.encoding import EncodedConcept
from lib_gie.core.erasure import Erasure, Target
from lib_gie.core.recorder import AttentionRecorder
from lib_gie.core.scales.scale_rules import FixedScale
from lib_gie.core.session import attach
from lib_gie.evaluation.bench.kernels import Kernels, counting

META = torch.device("meta")
FIXED = FixedScale(-2.0)
MOST_ON_A_GPU, MOST_ON_A_CPU = 2, 12
"""Kernels that the term takes in a layer."""


@pytest.fixture(params=sorted(BUILDERS))
def meta_unet(request):
    unet = BUILDERS[request.param]()
    unet.module.to(META)
    return unet


def on_meta(batch: Batch) -> Batch:
    return Batch(batch.latents.to(META), batch.timesteps.to(META), batch.context.to(META), batch.rows)


def concepts(count: int) -> list[EncodedConcept]:
    found = [make_concept(f"number {number}", 1 + number % 3, seed=number) for number in range(count)]
    return [EncodedConcept(one.concept, one.states.to(META), one.tokens) for one in found]


def steps(unet, erasure: Erasure | None, batch: Batch, count: int = 2) -> list[Kernels]:
    """What each of these steps asks of the device."""
    found = []
    with torch.no_grad(), attach(unet.module, erasure) if erasure else nullcontext(), counting("meta") as counter:
        for number in range(count):
            before = counter.found
            if erasure:
                erasure.begin(batch.rows, number / count)
            unet(*batch.arguments)
            found.append(counter.found - before)
    return found


def added(unet, erasure: Erasure, batch: Batch | None = None) -> tuple[Kernels, Kernels]:
    """What erasure adds to the first step and to the second."""
    batch = on_meta(make_batch()) if batch is None else batch
    (first, second), (bare, _) = steps(unet, erasure, batch), steps(unet, None, batch)
    return first - bare, second - bare


@pytest.mark.parametrize("count", [1, 3, 8])
def test_a_gpu_takes_two_in_a_layer(meta_unet, count):
    with few_kernels():
        once, more = added(meta_unet, Erasure([Target(one, FIXED) for one in concepts(count)]))
    assert more.kernels == MOST_ON_A_GPU * len(meta_unet.cross_attention)
    assert more.waits == 0
    assert once.waits <= 2  # for the prompt's emphasis, and to bring the scales to the device


def test_as_few_with_a_scale_for_every_token_and_image(meta_unet):
    rules = [PerImage(-torch.rand(2, one.count)) for one in concepts(8)]
    with few_kernels():
        _, more = added(meta_unet, Erasure([Target(*pair) for pair in zip(concepts(8), rules, strict=True)]))
    assert more.kernels == MOST_ON_A_GPU * len(meta_unet.cross_attention)
    assert more.waits == 0


def test_as_few_with_padding(meta_unet):
    with few_kernels():
        _, more = added(meta_unet, Erasure([Target(concepts(1)[0], FIXED)], padding=0.5))
    assert more.kernels == MOST_ON_A_GPU * len(meta_unet.cross_attention)


def test_a_cpu_takes_twelve_in_a_layer(meta_unet):
    _, more = added(meta_unet, Erasure([Target(one, FIXED) for one in concepts(3)]))
    assert more.kernels <= MOST_ON_A_CPU * len(meta_unet.cross_attention)
    assert more.waits == 0


@pytest.mark.parametrize("rows", [(0, 1, None, None), (0, None, 1, None)], ids=str)
@pytest.mark.parametrize("options", ["plain", "separate", "recorded"])
def test_no_step_waits(meta_unet, rows, options, either_arithmetic):
    """On other devices rows that are no neighbours are copied, and the prompt is compared by what it says."""
    settings = {"separate": {"concept_pass": "separate"}, "recorded": {"recorder": AttentionRecorder()}}
    erasure = Erasure([Target(one, FIXED) for one in concepts(2)], **settings.get(options, {}))
    batch = on_meta(make_batch(rows))
    _, more = added(meta_unet, erasure, batch)
    own = steps(meta_unet, None, batch, 1)[0].waits  # ldm waits in each call of the UNet
    assert more.kernels > 0
    assert more.waits == (2 * own if options == "separate" else 0)
