"""Attention layers and UNets that other extensions run in their own way: erased from as ever, or refused."""

from __future__ import annotations

import pytest
import torch
from test_hooks import KNIFE, erasure, run
from tiny import CONTEXT_WIDTH, make_batch, make_concept

from lib_gie.core.call import rows_within
from lib_gie.core.composition import Composition, Trace
from lib_gie.core.erasure import Erasure, Target
from lib_gie.core.recorder import PAPER, AttentionRecorder, Reading
from lib_gie.core.scales.adapter import Adapter, AdapterInfo
from lib_gie.core.session import attach
from lib_gie.errors import ErasureError

pytestmark = pytest.mark.usefixtures("either_arithmetic")

SIZE = 8


def close(found, expected):
    torch.testing.assert_close(found, expected, atol=1e-5 * float(expected.abs().max()), rtol=1e-5)


def call(inner, x, context):
    return inner(x, context) if context is not None else inner(x)


def replace_forward(monkeypatch, unet, around):
    """Every cross-attention layer's forward is ``around(inner, x, context)``, put onto the module as others do."""
    for module in unet.cross_attention:

        def forward(x, context=None, encoder_hidden_states=None, *args, inner=module.forward, **kwargs):
            return around(inner, x, encoder_hidden_states if context is None else context)

        monkeypatch.setattr(module, "forward", forward, raising=False)


def halves(inner, x, context):
    """Conditional and unconditional rows by themselves, the last ones first."""
    parts = [call(inner, rows, text) for rows, text in zip(x.chunk(2)[::-1], context.chunk(2)[::-1], strict=True)]
    return torch.cat(parts[::-1])


def regions(inner, x, context):
    """The left half of the pixels from one call, the right half from another."""
    first, second = call(inner, x, context), call(inner, x, context)
    middle = x.shape[1] // 2
    return torch.cat([first[:, :middle], second[:, middle:]], 1)


def copied(inner, x, context):
    """One row after another, each a copy: nobody can tell which rows these are."""
    rows = [call(inner, row.clone(), text) for row, text in zip(x.split(1), context.split(1), strict=True)]
    return torch.cat(rows)


WAYS = [halves, regions]


@pytest.mark.parametrize("concept_pass", ["fused", "separate"])
@pytest.mark.parametrize("way", WAYS)
def test_layers_run_in_parts_are_erased_from(unet, batch, monkeypatch, way, concept_pass):
    one = erasure(concept_pass=concept_pass)
    with attach(unet.module, one):
        expected = run(unet, batch, one)
    plain = run(unet, batch)
    replace_forward(monkeypatch, unet, way if concept_pass == "fused" else regions)
    with attach(unet.module, one):
        found = run(unet, batch, one)
    assert (expected - plain).abs().max() > 1e-3
    close(found, expected)


def test_rows_that_cannot_be_told_are_an_error(unet, batch, monkeypatch):
    replace_forward(monkeypatch, unet, copied)
    one = erasure()
    with attach(unet.module, one), pytest.raises(ErasureError, match="saw 1 rows in a UNet call of 4"):
        run(unet, batch, one)


def composed(unet, batch, **options):
    """The second of two steps that keep to the composition of one without erasure."""
    trace, later = Trace(), make_batch(seed=5)
    later.context = batch.context  # the prompt's keys are those of both
    watching = erasure(scale=0, trace=trace)
    with attach(unet.module, watching):
        run(unet, batch, watching)
        run(unet, batch, watching)
    one = erasure(composition=Composition(trace, 1.0, 0.0), **options)
    with attach(unet.module, one):
        run(unet, batch, one)
        return run(unet, later, one)


def test_every_region_keeps_the_composition(unet, batch, monkeypatch):
    expected = composed(unet, batch)
    replace_forward(monkeypatch, unet, regions)
    close(composed(unet, batch), expected)


def test_the_composition_is_not_kept_in_rows_run_by_themselves(unet, batch, monkeypatch):
    replace_forward(monkeypatch, unet, lambda inner, x, text: halves(inner, x, text) if len(x) == 4 else inner(x, text))
    with pytest.raises(ErasureError, match="do not keep the composition"):
        composed(unet, batch)


# -- a UNet that runs twice in one call, as for a reference image ------------------------------------------------


def run_twice(monkeypatch, unet, other=None):
    """Another image goes through the UNet before the call's own. ``other``: under this context."""
    inner = unet.module.forward

    def forward(x, timesteps, *args, **kwargs):
        name = "context" if "context" in kwargs else "encoder_hidden_states"
        inner(x + 1, timesteps, **{**kwargs, name: kwargs[name] if other is None else other})
        return inner(x, timesteps, *args, **kwargs)

    monkeypatch.setattr(unet.module, "forward", forward, raising=False)


def test_a_second_run_for_the_same_rows(unet, batch, monkeypatch):
    one = erasure()
    with attach(unet.module, one):
        expected = run(unet, batch, one)
    run_twice(monkeypatch, unet)
    with attach(unet.module, one):
        assert torch.equal(run(unet, batch, one), expected)


def test_an_adapter_reads_the_last_run(unet, batch, monkeypatch):
    torch.manual_seed(2)
    adapter = Adapter(AdapterInfo("width-24", len(unet.cross_attention), ("knife",), (-4.0, 0.0), PAPER)).eval()
    found = []
    for _ in range(2):
        one = Erasure([Target(KNIFE, adapter)])
        with attach(unet.module, one):
            run(unet, batch, one)
        found.append(one.scales[0][0])
        run_twice(monkeypatch, unet)
    assert torch.equal(*found)


def test_a_second_run_under_another_prompt_is_an_error(unet, batch, monkeypatch):
    run_twice(monkeypatch, unet, torch.zeros(4, 77, CONTEXT_WIDTH))
    one = erasure()
    with attach(unet.module, one), pytest.raises(ErasureError, match="ran twice in one UNet call, with another prompt"):
        run(unet, batch, one)


def test_a_second_run_with_a_concept_pass_of_its_own_is_an_error(unet, batch, monkeypatch):
    run_twice(monkeypatch, unet)
    one = erasure(concept_pass="separate")
    with attach(unet.module, one), pytest.raises(ErasureError, match="set the concept pass to fused"):
        run(unet, batch, one)


def test_a_layer_that_runs_more_often_than_others_is_an_error(unet, batch, monkeypatch):
    block, again = unet.cross_attention[0], []

    def once_more(module, args, kwargs):
        if not again:
            again.append(1)
            module(*args, **kwargs)

    block.register_forward_pre_hook(once_more, with_kwargs=True)
    one = erasure()
    with attach(unet.module, one), pytest.raises(ErasureError, match="2 times in one UNet call and others 1 times"):
        run(unet, batch, one)


# -- images in tiles ------------------------------------------------


def tiles_of(batch, count):
    """``count`` tiles' rows one after the other: each tile has other latents [B, 4, 8, 8]."""
    latents = torch.cat([batch.latents + number for number in range(count)])
    return latents, batch.timesteps.repeat(count), batch.context.repeat(count, 1, 1)


def tiled(unet, one, batch, sizes, rows=None):
    """The outputs of one step whose UNet calls have so many tiles each."""
    arguments, outputs, first = tiles_of(batch, sum(sizes)), [], 0
    one.begin(batch.rows, 0.0)
    with torch.no_grad(), one.ledger.tiles(rows or len(batch.rows)):
        for size in sizes:
            chosen = slice(first, first + size * len(batch.rows))
            outputs.append(unet(*(tensor[chosen] for tensor in arguments)))
            first = chosen.stop
    one.finish()
    return torch.cat(outputs)


@pytest.mark.parametrize("sizes", [(1, 1, 1), (2, 1), (3,)])
def test_every_tile_is_erased_from(unet, batch, sizes):
    one = erasure()
    with attach(unet.module, one):
        found = tiled(unet, one, batch, sizes)
        for tile in range(3):
            one.begin(batch.rows, 0.0)
            latents = batch.latents + tile
            with torch.no_grad():
                close(found[4 * tile : 4 * tile + 4], unet(latents, batch.timesteps, batch.context))


def test_a_tile_in_parts(unet, batch):
    """Conditional rows and unconditional ones may be calls of their own."""
    one = erasure()
    with torch.no_grad(), attach(unet.module, one):
        one.begin(batch.rows, 0.0)
        expected = unet(*batch.arguments)
        one.begin(batch.rows, 0.0)
        with one.ledger.tiles(4):
            for _ in range(2):
                halves = [unet(*(tensor[part] for tensor in batch.arguments)) for part in (slice(0, 2), slice(2, 4))]
                close(torch.cat(halves), expected)


@pytest.mark.parametrize(("rows", "message"), [(3, "rows of tiles that have 4 rows"), (6, "rows of tiles")])
def test_tiles_of_other_rows_are_an_error(unet, batch, rows, message):
    one = erasure()
    with attach(unet.module, one):
        one.begin(batch.rows, 0.0)
        with torch.no_grad(), pytest.raises(ErasureError, match=message), one.ledger.tiles(4):
            for _ in range(2):
                unet(*make_batch(range(rows)).arguments)
        with pytest.raises(ErasureError, match="no sampling step announced"):
            unet(*batch.arguments)


@pytest.mark.parametrize("rows", [0, 2])
def test_a_tile_that_is_not_finished_is_an_error(unet, batch, rows):
    one = erasure()
    with attach(unet.module, one):
        one.begin(batch.rows, 0.0)
        with (
            torch.no_grad(),
            pytest.raises(ErasureError, match="parts of the image may not be erased"),
            one.ledger.tiles(4),
        ):
            if rows:
                unet(*make_batch(range(rows)).arguments)


def test_the_strongest_of_all_tiles_scales(unet, batch):
    """The concept may be in any tile; what reads the image itself reads each in the first step."""
    torch.manual_seed(2)
    adapter = Adapter(AdapterInfo("width-24", len(unet.cross_attention), ("knife",), (-4.0, 0.0), Reading())).eval()
    alone = []
    for tile in range(3):
        one = Erasure([Target(KNIFE, adapter)])
        with torch.no_grad(), attach(unet.module, one):
            one.begin(batch.rows, 0.0)
            unet(batch.latents + tile, batch.timesteps, batch.context)
        alone.append(one.scales[0][0])
    one = Erasure([Target(KNIFE, adapter)])
    with attach(unet.module, one):
        tiled(unet, one, batch, (2, 1))
    torch.testing.assert_close(one.scales[0][0], torch.stack(alone).amin(0))
    assert len({float(scale) for scale in alone}) == 3


def test_which_rows_a_view_is():
    whole = torch.zeros(6, 5, 4)
    assert rows_within(whole, whole) == slice(0, 6)
    assert rows_within(whole[2:4], whole) == slice(2, 4)
    assert rows_within(whole.chunk(2)[1], whole) == slice(3, 6)
    for other in (whole[:, 1:], whole[::2], whole.clone(), whole[2:4].clone(), torch.zeros(6, 5, 4)[1:3]):
        assert rows_within(other, whole) is None
    assert rows_within(whole, whole[2:4]) is None


def test_presence_is_recorded_in_parts_too(unet, batch, monkeypatch):
    found = []
    for _ in range(2):
        one = erasure(concept=make_concept("red wine", 2, seed=9), recorder=AttentionRecorder())
        with attach(unet.module, one):
            run(unet, batch, one)
        found.append(one.recorder.strongest(0, 0))
        replace_forward(monkeypatch, unet, halves)
    assert found[0] == pytest.approx(found[1], rel=1e-5)
