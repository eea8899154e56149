"""UNets that torch.compile was used on: they stay compiled while concepts are erased, and are left as they were."""

from __future__ import annotations

import not_run
import pytest
import torch
from diffusers import StableDiffusionPipeline, UNet2DConditionModel
from test_pipeline import build_pipe, sample
from tiny import randomise
from torch._dynamo.utils import counters

from lib_gie.core.arithmetic import few_kernels
from lib_gie.core.composition import Trace
from lib_gie.core.concepts import Concept
from lib_gie.core.layers import find_cross_attention
from lib_gie.core.rules.growth_inhibitors import GrowthTerm
from lib_gie.core.session import erasing
from lib_gie.errors import ErasureError, UnsupportedModelError
from lib_gie.hosts.diffusers import GrowthInhibitors
from lib_gie.hosts.diffusers.classes import layout_of
from lib_gie.hosts.diffusers.compiled import hooked
from lib_gie.hosts.diffusers.texts import encode_concept

HAS_OPERATORS = hasattr(torch.Tag, "cudagraph_unsafe")
"""Whether this torch can keep an operator out of CUDA graphs."""

SMALL = {
    "sample_size": 8,
    "attention_head_dim": 2,
    "cross_attention_dim": 24,
    "layers_per_block": 1,
    "block_out_channels": (32,),
    "down_block_types": ("CrossAttnDownBlock2D",),
    "mid_block_type": None,
    "up_block_types": ("CrossAttnUpBlock2D",),
}
"""A UNet of three cross-attention layers, which compiles in a moment."""

can_be_run = pytest.mark.skipif(not hasattr(torch.compiler, "set_stance"), reason=not_run.OLDER_TORCH)
stays_compiled = pytest.mark.skipif(not HAS_OPERATORS, reason=not_run.OLDER_TORCH)


@pytest.fixture
def pipe():
    torch.compiler.reset()
    counters.clear()
    pipe = build_pipe()
    pipe.unet = randomise(UNet2DConditionModel(**SMALL))
    return pipe


def compiled_whole(pipe, **options):
    pipe.unet = torch.compile(pipe.unet, **options)


def compiled_in_place(pipe, **options):
    pipe.unet.compile(**options)


def compiled_blocks(pipe, **options):
    if not hasattr(pipe.unet, "compile_repeated_blocks"):
        pytest.skip(not_run.OLDER_DIFFUSERS)
    pipe.unet.compile_repeated_blocks(**options)


def compiled_forward(pipe, **options):
    pipe.unet.forward = torch.compile(pipe.unet.forward, **options)


def compiled_layers(pipe, **options):
    for layer in find_cross_attention(pipe.unet):
        layer.module.compile(**options)


def wrapped_layers(pipe, **options):
    for layer in find_cross_attention(pipe.unet):
        block = pipe.unet.get_submodule(layer.name.rpartition(".")[0])
        block.attn2 = torch.compile(block.attn2, **options)


def compiled_projections(pipe, **options):
    for layer in find_cross_attention(pipe.unet):
        layer.to_q.compile(**options)


def compiled_layer_forwards(pipe, **options):
    for layer in find_cross_attention(pipe.unet):
        layer.module.forward = torch.compile(layer.module.forward, **options)


WAYS = [compiled_whole, compiled_in_place, compiled_blocks, compiled_forward]
PARTS = [compiled_layers, wrapped_layers, compiled_projections, compiled_layer_forwards]


def erased(pipe, **options):
    with GrowthInhibitors(pipe, "knife", scale=-3, **options):
        return sample(pipe)


def graphs() -> int:
    return counters["stats"]["unique_graphs"]


def state(unet):
    """Return the classes of a UNet's modules, and what their instances have."""
    return {name: (type(module), sorted(vars(module)), len(module._forward_hooks), len(module._forward_pre_hooks))
            for name, module in unet.named_modules()}  # fmt: skip


@can_be_run
@pytest.mark.parametrize("compile_it", [*WAYS, *PARTS])
def test_compiled_unet(pipe, compile_it):
    """It erases as without compiling, also where it was called before, and is left as it was."""
    expected = erased(pipe)
    compile_it(pipe, backend="eager")
    plain = sample(pipe)
    before = state(pipe.unet)
    torch.testing.assert_close(erased(pipe), expected)
    assert state(pipe.unet) == before
    assert torch.equal(sample(pipe), plain)
    assert (plain - expected).abs().max() > 1e-3


@stays_compiled
@pytest.mark.parametrize(
    ("compile_it", "first", "second"), [*((way, sample, erased) for way in WAYS), (compiled_in_place, erased, sample)]
)
def test_it_stays_compiled(pipe, compile_it, first, second):
    """There is one set of graphs with erasure and one without, whole ones, and no more however often both change."""
    compile_it(pipe, backend="eager", fullgraph=True)
    first(pipe)
    of_one = graphs()
    second(pipe)
    of_both = graphs()
    assert 0 < of_one < of_both
    for _ in range(2):
        sample(pipe)
        erased(pipe)
    assert graphs() == of_both


@stays_compiled
@pytest.mark.parametrize("compile_it", [compiled_in_place, compiled_blocks])
def test_cuda_graphs(pipe, compile_it):
    """Torch finds in the graphs with erasure what it must not capture, and in the others nothing of that kind."""
    from torch._inductor.utils import get_first_incompatible_cudagraph_node  # older ones have none

    found = []

    def keep(graph, example_inputs):
        found.append(get_first_incompatible_cudagraph_node(graph))
        return graph

    compile_it(pipe, backend=keep)
    sample(pipe)
    assert set(found) == {None}
    found.clear()
    erased(pipe)
    assert {str(node.target) for node in found} == {"lib_gie.attention_layer.default"}


@can_be_run
def test_it_is_not_switched_off_for_others(pipe):
    """Nothing stays uncompiled after a GrowthInhibitors was made, and after a call that had to run as written."""
    compiled_in_place(pipe, backend="eager")
    GrowthInhibitors(pipe, "knife", scale=-3)
    sample(pipe)
    assert graphs() > 0
    trace = Trace()
    erased(pipe, trace=trace)
    erased(pipe, composition=trace)
    before = graphs()
    other = torch.compile(lambda x: x + 1, backend="eager")
    other(torch.zeros(1))
    assert graphs() == before + 1


@can_be_run
@pytest.mark.parametrize("compile_it", [compiled_in_place, compiled_blocks])
@pytest.mark.parametrize("options", [{"concept_pass": "separate"}, {"rule": "value projection"}])
def test_other_ways_to_erase(pipe, compile_it, options):
    expected = erased(pipe, **options)
    compile_it(pipe, backend="eager")
    torch.testing.assert_close(erased(pipe, **options), expected)


@can_be_run
@pytest.mark.parametrize("compile_it", [compiled_in_place, compiled_blocks])
def test_the_arithmetic_of_gpus(pipe, compile_it, monkeypatch):
    added, plain = [], GrowthTerm.add_before
    monkeypatch.setattr(GrowthTerm, "add_before", lambda self, *args: added.append(1) or plain(self, *args))
    expected = erased(pipe)
    compile_it(pipe, backend="eager", fullgraph=True)
    with few_kernels():
        torch.testing.assert_close(erased(pipe), expected, atol=1e-4, rtol=1e-4)
    assert added


@can_be_run
@pytest.mark.parametrize("compile_it", [compiled_in_place, compiled_blocks])
def test_a_composition_that_is_kept(pipe, compile_it):
    trace = Trace()
    erased(pipe, strength=0, trace=trace)
    expected = erased(pipe, composition=trace)
    compile_it(pipe, backend="eager", fullgraph=True)
    torch.testing.assert_close(erased(pipe, composition=trace), expected)


@can_be_run
def test_arguments_for_attention_layers(pipe):
    """An operator takes none of them: such a call runs as it was written."""

    def sampled():
        with GrowthInhibitors(pipe, "knife", scale=-3):
            return sample(pipe, cross_attention_kwargs={"unknown": 1})

    expected = sampled()
    compiled_blocks(pipe, backend="eager", fullgraph=True)
    assert torch.equal(sampled(), expected)
    assert graphs() == 0


@can_be_run
def test_two_at_once(pipe):
    def both():
        with GrowthInhibitors(pipe, "knife", scale=-2), GrowthInhibitors(pipe, "cat", scale=-1):
            return sample(pipe)

    expected = both()
    compiled_in_place(pipe, backend="eager")
    before = state(pipe.unet)
    torch.testing.assert_close(both(), expected)
    one, other = (GrowthInhibitors(pipe, text, scale=-2) for text in ("knife", "cat"))
    one.__enter__()
    other.__enter__()
    one.__exit__(None, None, None)
    other.__exit__(None, None, None)
    assert state(pipe.unet) == before


@can_be_run
@pytest.mark.parametrize("compile_it", WAYS)
def test_another_pipeline_with_the_same_unet(pipe, compile_it):
    """Its call is noticed, though the graph that runs then was compiled without the hooks."""
    compile_it(pipe, backend="eager")
    sample(pipe)
    other = StableDiffusionPipeline(**pipe.components, requires_safety_checker=False)
    with GrowthInhibitors(pipe, "knife", scale=-3), pytest.raises(ErasureError, match="outside the steps"):
        sample(other)


@can_be_run
def test_compiled_within_the_context(pipe):
    expected = erased(pipe)
    before = state(pipe.unet)
    with GrowthInhibitors(pipe, "knife", scale=-3):
        compiled_in_place(pipe, backend="eager", fullgraph=True)
        torch.testing.assert_close(sample(pipe), expected)
    after = state(pipe.unet)
    assert {name: kind for name, (kind, *_) in after.items()} == {name: kind for name, (kind, *_) in before.items()}


@can_be_run
@pytest.mark.parametrize("compile_it", WAYS)
def test_an_error_in_a_layer(pipe, compile_it):
    """It comes out of the graph, and all is put back."""
    compile_it(pipe, backend="eager", fullgraph=True)
    sample(pipe)
    before = state(pipe.unet)
    layer = find_cross_attention(pipe.unet)[-1].module

    def broken(*args):
        raise ErasureError("broken")

    handle = layer.to_q.register_forward_hook(broken)
    with pytest.raises(ErasureError, match="broken"):
        erased(pipe)
    handle.remove()
    assert state(pipe.unet) == before


@stays_compiled
@pytest.mark.parametrize("compile_it", [compiled_in_place, compiled_blocks])
def test_gradients(pipe, compile_it):
    """The operator has none, so layers run beside the graphs where some are wanted."""
    concept = encode_concept(pipe, layout_of(pipe)[0], Concept("knife"), {})
    generator = torch.Generator().manual_seed(1)
    latents, context = (torch.randn(1, *shape, generator=generator) for shape in [(4, 8, 8), (77, 24)])
    latents.requires_grad_()

    def gradient():
        with hooked(pipe.unet, {}), erasing(pipe.unet, concept, torch.tensor([-3.0])):
            output = pipe.unet(latents, torch.tensor(5), encoder_hidden_states=context).sample
        return torch.autograd.grad(output.square().sum(), latents)[0]

    expected = gradient()
    compile_it(pipe, backend="eager")
    torch.testing.assert_close(gradient(), expected)
    assert graphs() > 0


def refused(pipe):
    with pytest.raises(UnsupportedModelError, match=r"torch 2\.9") as error:
        GrowthInhibitors(pipe, "knife")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("compile_it", WAYS)
def test_an_old_torch(pipe, monkeypatch, compile_it):
    """It is refused before an image is made."""
    monkeypatch.delattr(torch.compiler, "set_stance", raising=False)
    compile_it(pipe, backend="eager")
    refused(pipe)


@can_be_run
@pytest.mark.parametrize("compile_it", WAYS)
def test_without_the_tag(pipe, monkeypatch, compile_it):
    """A torch that may put the operator into a CUDA graph runs the UNet as it was written."""
    expected = erased(pipe)
    monkeypatch.delattr(torch.Tag, "cudagraph_unsafe", raising=False)
    compile_it(pipe, backend="eager")
    assert torch.equal(erased(pipe), expected)
    assert graphs() == 0
