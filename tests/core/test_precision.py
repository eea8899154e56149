"""Half precision, autocast and float8 weights as the WebUI uses them: right dtypes, and the term that float32 gives."""

from __future__ import annotations

from contextlib import nullcontext

import not_run
import pytest
import torch
from tiny import build_ldm, make_batch, make_concept, multiplies_halves

from lib_gie.core.erasure import Erasure, Target
from lib_gie.core.recorder import PAPER
from lib_gie.core.rules.growth_inhibitors import GrowthTerm
from lib_gie.core.scales.scale_rules import FixedScale
from lib_gie.core.session import attach, read_attention

pytestmark = pytest.mark.usefixtures("either_arithmetic")

HALF, BF16, FP8 = torch.float16, torch.bfloat16, torch.float8_e4m3fn
MODES = {
    "float16": (HALF, None, 0.02),
    "bfloat16": (BF16, None, 0.1),
    "autocast": (torch.float32, BF16, 0.1),
    "float8 under autocast": (FP8, BF16, 0.1),
}
"""Of the weights, of the computation under autocast, and how far the term may be from float32's."""


def autocast(to: torch.dtype | None):
    return nullcontext() if to is None else torch.autocast("cpu", to)


@pytest.fixture(params=MODES)
def mode(request, monkeypatch):
    """(UNet, the same weights in float32, dtype that it is called with, autocast dtype, tolerance).

    What the WebUI changes in ldm for it is changed here, too.
    """
    from ldm.modules import attention
    from ldm.modules.diffusionmodules import openaimodel, util

    weights, compute, tolerance = MODES[request.param]
    if weights == HALF and not multiplies_halves():
        pytest.skip(not_run.OLDER_TORCH)
    unet, exact = build_ldm().module, build_ldm().module
    called = torch.float32 if weights == FP8 else weights
    unet.to(called)
    if weights == FP8:
        for module in unet.modules():
            if isinstance(module, (torch.nn.Linear, torch.nn.Conv2d)):
                module.to(FP8)
    exact.load_state_dict({name: value.float() for name, value in unet.state_dict().items()})
    plain = openaimodel.timestep_embedding
    monkeypatch.setattr(openaimodel, "timestep_embedding", lambda t, *a, **k: plain(t, *a, **k).to(_Current.dtype))
    monkeypatch.setattr(attention, "_ATTN_PRECISION", "fp16")  # the WebUI has attention of its own
    for norm in (torch.nn.GroupNorm, torch.nn.LayerNorm, util.GroupNorm32):
        monkeypatch.setattr(norm, "forward", _norm)
    unet.dtype, exact.dtype = called, torch.float32
    return unet, exact, called, compute, tolerance


def _norm(self, x: torch.Tensor) -> torch.Tensor:
    """As a GPU does under autocast; a CPU refuses mixed dtypes."""
    weight, bias, functional = self.weight.float(), self.bias.float(), torch.nn.functional
    if isinstance(self, torch.nn.GroupNorm):
        return functional.group_norm(x.float(), self.num_groups, weight, bias, self.eps).to(x.dtype)
    return functional.layer_norm(x.float(), self.normalized_shape, weight, bias, self.eps).to(x.dtype)


class _Current:
    dtype = torch.float32


def run(unet, dtype, compute=None, erasure=None):
    """Float32 of what the UNet returns for two conditional and two unconditional rows."""
    _Current.dtype, batch = dtype, make_batch()
    with torch.no_grad(), autocast(compute), attach(unet, erasure) if erasure else nullcontext():
        if erasure:
            erasure.begin(batch.rows, 0.0)
        return unet(batch.latents.to(dtype), batch.timesteps, context=batch.context.to(dtype)).float()


def an_erasure(concept_pass="fused", scale=-3.0):
    concepts = make_concept(), make_concept("wine", 2, seed=6)
    return Erasure([Target(concept, FixedScale(scale)) for concept in concepts], concept_pass=concept_pass)


@pytest.mark.parametrize("concept_pass", ["fused", "separate"])
def test_the_term_is_that_of_float32(mode, concept_pass):
    unet, exact, dtype, compute, tolerance = mode
    off, on = run(unet, dtype, compute), run(unet, dtype, compute, an_erasure(concept_pass))
    expected = run(exact, torch.float32, None, an_erasure(concept_pass)) - run(exact, torch.float32)
    assert torch.equal(on[2:], off[2:])
    assert ((on - off - expected).norm() / expected.norm()).item() < tolerance
    assert torch.equal(run(unet, dtype, compute, an_erasure(concept_pass, 0.0)), off)


def test_what_adapters_read_is_that_of_float32(mode):
    unet, exact, dtype, compute, _ = mode
    batch, found = make_batch(), []
    for module, kind, to in ((unet, dtype, compute), (exact, torch.float32, None)):
        _Current.dtype = kind
        arguments = batch.latents.to(kind), batch.timesteps, batch.context.to(kind)
        with autocast(to):
            found += read_attention(module, [make_concept()], PAPER, arguments)
    assert found[0].dtype == torch.float32
    assert torch.allclose(found[0], found[1], atol=0.02 * found[1].max().item() + 1e-3)


def test_folded_matrices_have_the_dtype_that_the_layer_computes_in(mode, monkeypatch):
    unet, _, dtype, compute, _ = mode
    made = []

    class Kept(GrowthTerm):
        def __init__(self, *args):
            super().__init__(*args)
            made.append(self)

    monkeypatch.setattr("lib_gie.core.rules.growth_inhibitors.GrowthTerm", Kept)
    run(unet, dtype, compute, an_erasure())
    assert made
    folded = [part for kept in made for part in (*folded_before(kept), *folded_after(kept))]
    assert len(folded) == 2 * len(made)  # one way or the other
    assert {part.dtype for part in folded} == {compute or dtype}


def folded_after(term: GrowthTerm) -> list[torch.Tensor]:
    """K* and U, where the term was added after W_o."""
    made = vars(term)
    return [term.concepts.keys, made["outputs"]] if "outputs" in made else []


def folded_before(term: GrowthTerm) -> list[torch.Tensor]:
    """K* and V*, where it was added before."""
    return [part for parts in term._by_group.values() for part in parts]
