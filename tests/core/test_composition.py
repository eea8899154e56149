"""Keeping the composition: against literal paired maps on real UNets, and failing where the two are no twins."""

from __future__ import annotations

import math
from contextlib import contextmanager

import pytest
import torch
from literal import LiteralGIE, split
from test_hooks import hooks_of
from tiny import make_batch, make_concept

from lib_gie.core import composition as module
from lib_gie.core.call import UNetCall
from lib_gie.core.composition import Composition, Follower, Trace
from lib_gie.core.erasure import Erasure, Target
from lib_gie.core.scales.scale_rules import FixedScale
from lib_gie.core.session import attach
from lib_gie.errors import ErasureError, OptionError

pytestmark = pytest.mark.usefixtures("either_arithmetic")

KNIFE = make_concept("knife", 1)
ROWS = (0, 1, None, None)


def erasure(scale=-3, concept=KNIFE, **options) -> Erasure:
    return Erasure([Target(concept, FixedScale(scale))], **options)


def steps(unet, one: Erasure, batches, others=()):
    """A UNet call for each batch, the sampling half way through at the second of two."""
    outputs = []
    for number, batch in enumerate(batches):
        for each in (one, *others):
            each.begin(batch.rows, number / len(batches))
        with torch.no_grad():
            outputs.append(unet(*batch.arguments))
    return outputs


@contextmanager
def attached(unet, *erasures):
    contexts = [attach(unet.module, each) for each in erasures]
    for each in contexts:
        each.__enter__()
    try:
        yield
    finally:
        for each in reversed(contexts):
            each.__exit__(None, None, None)


def trace_of(unet, batches) -> Trace:
    """What a trajectory without erasure is given."""
    trace = Trace()
    watching = erasure(0, trace=trace)
    with attach(unet.module, watching):
        steps(unet, watching, batches)
    return trace


class LiteralPair(LiteralGIE):
    """Rows: the images without erasure, then the erased ones, which take the maps of the others."""

    cross = self_attention = True

    def make_forward(self, attention):
        is_cross = attention in self.cross_modules

        def forward(x, context=None, encoder_hidden_states=None, *args, **kwargs):
            context = encoder_hidden_states if context is None else context
            context = x if context is None else context
            query, key = split(attention.to_q(x), attention.heads), split(attention.to_k(context), attention.heads)
            value, half, scale = split(attention.to_v(context), attention.heads), len(x) // 2, query.shape[-1] ** -0.5
            maps = (query @ key.transpose(-1, -2) * scale).softmax(-1)
            small = x.shape[1] <= module.SELF_PIXELS
            if (is_cross and self.cross) or (not is_cross and self.self_attention and small):
                maps = torch.cat([maps[:half], maps[:half]])
                query = torch.cat([query[:half], query[:half]])  # M*, too
            outputs = list(maps @ value)
            if is_cross:
                for r in range(half, len(x)):
                    outputs[r] = self.row(attention, r, query, maps[r], value[r], scale)
            return self.project(attention, torch.stack(outputs))

        return forward


def queries_under_the_concept(unet, concepts, batch):
    """Of the concept pass under each concept, for the images without erasure and again for the erased ones."""
    alone, latents, timesteps = LiteralGIE(unet.cross_attention, concepts, [None, None]), *batch.arguments[:2]
    alone.mode = "record"
    with torch.no_grad(), alone:
        unet(latents[:2], timesteps[:2], KNIFE.states[None].repeat(2, 1, 1))
    return [{attention: torch.cat([query, query]) for attention, query in alone.concept_queries.items()}]


def literal(unet, without, own, cross=True, self_attention=True, concept_pass="fused"):
    """Outputs of the erased conditional rows."""
    selfs = [part for name, part in unet.module.named_modules() if name.endswith("attn1")]
    concepts = [(KNIFE.states, 1, torch.full((4, 1), -3.0))]
    pair = LiteralPair([*selfs, *unet.cross_attention], concepts, [None, None, 0, 1])
    pair.cross_modules, pair.cross, pair.self_attention = unet.cross_attention, cross, self_attention
    pair.mode = concept_pass
    pair.queries_of_pass = queries_under_the_concept(unet, concepts, without)
    parts = [torch.cat([a[:2], b[:2]]) for a, b in zip(without.arguments, own.arguments, strict=True)]
    with torch.no_grad(), pair:
        return unet(*parts)[2:]


FIRST = make_batch(ROWS, seed=1)


def later(seed):
    batch = make_batch(ROWS, seed=seed)
    batch.context = FIRST.context
    return batch


@pytest.mark.parametrize(("cross", "self_attention"), [(1.0, 1.0), (1.0, 0.5), (0.5, 1.0)])
def test_it_takes_over_the_maps_of_the_other_trajectory(unet, cross, self_attention):
    without, own = later(2), later(3)
    one = erasure(composition=Composition(trace_of(unet, [FIRST, without]), cross, self_attention))
    with attach(unet.module, one):
        output = steps(unet, one, [FIRST, own])[1]
    expected = literal(unet, without, own, cross > 0.5, self_attention > 0.5)
    torch.testing.assert_close(output[:2], expected, atol=1e-5 * float(expected.abs().max()), rtol=1e-5)
    with torch.no_grad():
        assert torch.equal(output[2:], unet(*own.arguments)[2:])  # unconditional rows are the image's own
    assert hooks_of(unet.module) == 0


def test_a_concept_pass_of_its_own_reads_the_other_trajectory(unet):
    without, own = later(2), later(3)
    one = erasure(composition=Composition(trace_of(unet, [FIRST, without]), 1.0, 1.0), concept_pass="separate")
    with attach(unet.module, one):
        output = steps(unet, one, [FIRST, own])[1]
    expected = literal(unet, without, own, concept_pass="separate")
    torch.testing.assert_close(output[:2], expected, atol=1e-5 * float(expected.abs().max()), rtol=1e-5)


def test_large_self_attention_maps_stay(unet, monkeypatch):
    monkeypatch.setattr(module, "SELF_PIXELS", 16)
    without, own = later(2), later(3)
    one = erasure(composition=Composition(trace_of(unet, [FIRST, without]), 1.0, 1.0))
    with attach(unet.module, one):
        output = steps(unet, one, [FIRST, own])[1]
    expected = literal(unet, without, own)
    torch.testing.assert_close(output[:2], expected, atol=1e-5 * float(expected.abs().max()), rtol=1e-5)


def test_where_nothing_is_erased_nothing_changes(unet):
    batches = [FIRST, later(2)]
    one = erasure(0, composition=Composition(trace_of(unet, batches)))
    with attach(unet.module, one):
        outputs = steps(unet, one, batches)
    with torch.no_grad():
        assert all(torch.equal(ours, unet(*batch.arguments)) for ours, batch in zip(outputs, batches, strict=True))


def test_it_repeats_bit_for_bit(unet):
    trace, found = trace_of(unet, [FIRST, later(2)]), []
    for _ in range(2):
        one = erasure(composition=Composition(trace))
        with attach(unet.module, one):
            found.append(steps(unet, one, [FIRST, later(3)])[1])
    assert torch.equal(*found)


def test_what_else_is_erased_is_erased_from_the_other_trajectory_too(unet):
    """As an admin's concepts are: the other trajectory was sampled with them erased."""
    wine = make_concept("wine", 1, seed=9)
    without, own = later(2), later(3)
    trace, always = Trace(), erasure(-2, wine)
    watching = erasure(0, trace=trace)
    with attached(unet, always, watching):
        steps(unet, watching, [FIRST, without], [always])
    kept = {}

    def keep(layer, args, output):
        kept.setdefault(layer, []).append(output.detach().clone())

    last = unet.cross_attention[-1].to_q
    handle = last.register_forward_hook(keep)
    always, one = erasure(-2, wine), erasure(composition=Composition(trace, 1.0, 1.0))
    with attached(unet, always, one):
        steps(unet, one, [FIRST, own], [always])
    handle.remove()
    alone = erasure(-2, wine)
    handle = last.register_forward_hook(keep)
    with attach(unet.module, alone):
        steps(unet, alone, [FIRST, without])
    handle.remove()
    queries = kept[last]  # the other's, the erased one's, twice; then the two of the trajectory itself
    torch.testing.assert_close(queries[2], queries[5][:2], atol=1e-4, rtol=1e-4)


def test_batches_of_several_calls(unet):
    """Conditional and unconditional rows apart, as with batch_cond_uncond off."""
    parts = [make_batch((0,), seed=4), make_batch((1,), seed=5), make_batch((None,), seed=6)]
    joined = [torch.cat(tensors) for tensors in zip(*(part.arguments for part in parts), strict=True)]

    def run(one, calls):
        one.begin((0, 1, None), 0.0)
        with torch.no_grad():
            return torch.cat([unet(*call) for call in calls])

    found = []
    for calls in ([part.arguments for part in parts], [joined]):
        trace = Trace()
        watching = erasure(0, trace=trace)
        with attach(unet.module, watching):
            run(watching, calls)
        one = erasure(composition=Composition(trace))
        with attach(unet.module, one):
            found.append(run(one, calls))
        one.finish()
    torch.testing.assert_close(*found, atol=1e-4 * float(found[0].abs().max()), rtol=1e-4)


def test_layers_cut_into_tiles_are_left_alone(unet, monkeypatch):
    """As hypertile has it: tiles of a large map are rows of a small one, in another number than the images."""
    layers = [part for name, part in unet.module.named_modules() if name.endswith("attn1")]
    taken = []
    monkeypatch.setattr(Follower, "_replaced", lambda self, name, output, kept: taken.append(name) or output)

    def run():
        taken.clear()
        trace = trace_of(unet, [FIRST])
        one = erasure(composition=Composition(trace))
        with attach(unet.module, one):
            steps(unet, one, [FIRST])
        return [name for name in taken if "attn1" in name]

    assert len(run()) == 2 * len(layers)
    for layer in layers:
        inner = layer.forward

        def in_tiles(x, *args, inner=inner, **kwargs):  # x [B, N, C]
            batch, pixels, width = x.shape
            return inner(x.reshape(2 * batch, pixels // 2, width), *args, **kwargs).reshape(batch, pixels, width)

        monkeypatch.setattr(layer, "forward", in_tiles)
    assert run() == []


def test_the_hosts_randomness_is_left_alone(unet):
    """Around each call that is not the host's, and around no other."""
    entered = []

    @contextmanager
    def undisturbed():
        entered.append(len(calls))
        yield

    trace = trace_of(unet, [FIRST, later(2)])
    calls = []
    handle = unet.module.register_forward_pre_hook(lambda module, args: calls.append(0))
    one = erasure(composition=Composition(trace))
    with attach(unet.module, one, undisturbed):
        steps(unet, one, [FIRST, later(2)])
    handle.remove()
    assert len(calls) == 4
    assert len(entered) == 2


# -- failing ------------------------------------------------


def _other_timestep():
    batch = later(3)
    batch.timesteps = batch.timesteps - 1
    return batch


@pytest.mark.parametrize(
    ("recorded", "made", "says"),
    [
        ([FIRST], [later(3)], "starts from other noise or from another prompt"),
        ([FIRST], [FIRST, FIRST], "2 UNet calls or more, that one had 1"),
        ([FIRST, FIRST], [FIRST, _other_timestep()], "another timestep in UNet call 2"),
        ([make_batch((0, 2, None, None))], [FIRST], r"rows \(0, 1\) in UNet call 1, that one had \(0, 2\)"),
    ],
)
def test_what_is_no_twin_is_refused(unet, recorded, made, says):
    one = erasure(composition=Composition(trace_of(unet, recorded)))
    with attach(unet.module, one), pytest.raises(ErasureError, match=says):
        steps(unet, one, made)
    assert hooks_of(unet.module) == 0


def test_a_projection_that_is_passed_by(unet):
    """As an extension would that computes queries in its own way in every second call."""
    trace = trace_of(unet, [FIRST, later(2)])
    layer = next(part for name, part in unet.module.named_modules() if name.endswith("attn1"))
    one, inner = erasure(composition=Composition(trace, 1.0, 1.0)), layer.to_k
    calls = iter(range(100))

    class Passing(torch.nn.Module):
        def forward(self, x):
            return inner(x) if next(calls) % 2 == 0 else inner.forward(x)

    with attach(unet.module, one):
        layer.to_k = Passing()
        try:
            with pytest.raises(ErasureError, match="did not take over the composition"):
                steps(unet, one, [FIRST])
        finally:
            layer.to_k = inner


def test_there_must_be_a_trace():
    with pytest.raises(OptionError, match="make that one first"):
        Composition(Trace())


@pytest.mark.parametrize("share", [-0.1, 1.1, math.nan, "half", True])
def test_bad_shares(share):
    trace = Trace()
    trace.record((0,), UNetCall((torch.zeros(1, 4, 8, 8), torch.zeros(1)), {}))
    with pytest.raises(OptionError, match="composition_cross is"):
        Composition(trace, cross=share)
    with pytest.raises(OptionError, match="composition_self is"):
        Composition(trace, self_attention=share)


def test_a_trace_keeps_no_view():
    trace, latents = Trace(), torch.zeros(4, 4, 8, 8)
    trace.record((0,), UNetCall((latents[:1], torch.zeros(1)), {"context": latents[:1, 0]}))
    latents += 1
    ((_, call),) = trace.calls
    assert float(call.latents.abs().max()) == float(call.context.abs().max()) == 0
