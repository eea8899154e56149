"""The term in few kernels: added before W_o, the same as after it, and left to that way wherever it must be."""

from __future__ import annotations

import not_run
import pytest
import torch
from test_algorithm import CONCEPTS, TABLES, PerImage, assert_same, erase, stock
from test_hooks import erasure, run
from tiny import build_ldm, make_batch, make_concept, multiplies_halves

from lib_gie.core.arithmetic import few_kernels, takes_few_kernels
from lib_gie.core.columns import ColumnScales
from lib_gie.core.erasure import Erasure, Target
from lib_gie.core.folds import Folds
from lib_gie.core.layer_concepts import LayerConcepts
from lib_gie.core.layers import find_cross_attention
from lib_gie.core.recorder import AttentionRecorder
from lib_gie.core.rules import growth_inhibitors
from lib_gie.core.rules.growth_inhibitors import RULE, GrowthTerm
from lib_gie.core.rules.protocol import QUERIES, LayerRun
from lib_gie.core.scales.scale_rules import FixedScale
from lib_gie.core.session import attach
from lib_gie.errors import ErasureError

CPU = torch.device("cpu")
PIXELS = 16


@pytest.fixture
def before(monkeypatch) -> list[int]:
    """Count how often a term is added before W_o."""
    found, plain = [], GrowthTerm.add_before

    def counted(self, *args):
        found.append(1)
        plain(self, *args)

    monkeypatch.setattr(GrowthTerm, "add_before", counted)
    return found


def test_it_is_the_way_of_gpus():
    assert takes_few_kernels(torch.device("cuda", 0))
    assert not takes_few_kernels(CPU)
    assert not takes_few_kernels(torch.device("mps"))
    with few_kernels():
        assert takes_few_kernels(CPU)
    assert not takes_few_kernels(CPU)


def test_all_layers_take_it(unet, batch, before):
    with few_kernels():
        erase(unet, batch, [Target(CONCEPTS[1], FixedScale(-3))])
    assert len(before) == len(unet.cross_attention)
    erase(unet, batch, [Target(CONCEPTS[1], FixedScale(-3))])
    assert len(before) == len(unet.cross_attention)


# -- groups ------------------------------------------------


@pytest.mark.parametrize(
    ("columns", "owners", "groups", "by_group"),
    [
        ([[-1, -1, -2]], [0, 0, 1], (0, 0, 1), [[-1, -2]]),
        ([[-1, -1, -1]], [0, 0, 1], (0, 0, 1), [[-1, -1]]),  # concepts attend by themselves
        ([[-1, -2, -1]], [0, 0, 0], (0, 1, 0), [[-1, -2]]),
        ([[-1, -1], [-1, -3]], [0, 0], (0, 1), [[-1, -1], [-1, -3]]),
        ([[0, -1], [0, -2]], [0, 1], (None, 0), [[-1], [-2]]),  # nothing is attended to for a scale of 0
        ([[0, -1], [-2, 0]], [0, 1], (0, 1), [[0, -1], [-2, 0]]),
    ],
)
def test_columns_of_one_scale_are_one_group(columns, owners, groups, by_group):
    scales = ColumnScales(torch.tensor(columns, dtype=torch.float32), owners, CPU)
    assert scales.groups == groups
    assert torch.equal(scales.by_group(torch.float32), torch.tensor(by_group, dtype=torch.float32))
    assert scales.by_group(torch.bfloat16).dtype == torch.bfloat16
    assert scales.by_group(torch.bfloat16) is scales.by_group(torch.bfloat16)


def test_scales_are_put_on_the_device_once():
    folds, scale = Folds(find_cross_attention(build_ldm().module)), (torch.full((2, 1), -1.0),)
    found = folds.scales(RULE, scale, (CONCEPTS[0],), 0.0, CPU)
    assert folds.scales(RULE, tuple(scale), (CONCEPTS[0],), 0.0, CPU) is found
    assert folds.scales(RULE, (scale[0].clone(),), (CONCEPTS[0],), 0.0, CPU) is not found
    assert folds.rows([0, 2], CPU) is folds.rows([0, 2], CPU)


# -- one layer ------------------------------------------------


def layer_and_query(dtype):
    layer = find_cross_attention(build_ldm(heads=4).module)[0]
    query = torch.randn(2, PIXELS, layer.module.to_q.out_features, generator=torch.Generator().manual_seed(1))
    return layer, query.to(dtype)


def literal_term(layer, query, concepts, tables, padding=0.0):
    """By the paper, in float64, before W_o: [B, N, h*d]."""
    module, heads = layer.module, layer.heads
    total = torch.zeros(query.shape, dtype=torch.float64)
    for concept, table in zip(concepts, tables, strict=True):
        parts = [part.weight.double() for part in (module.to_k, module.to_v)]
        keys, values = (concept.states.double() @ part.T for part in parts)  # [L, h*d]
        count = len(concept.states) - 1 if padding else concept.count
        rest = padding * table.mean(1, keepdim=True).expand(-1, count - concept.count)
        w = torch.cat([table, rest], 1).double()  # [B, n]
        for head in range(heads):
            own = slice(head * keys.shape[1] // heads, (head + 1) * keys.shape[1] // heads)
            scores = query[..., own].double() @ keys[:, own].T / (own.stop - own.start) ** 0.5
            maps = scores.softmax(-1)[..., 1 : 1 + count] * w[:, None]  # [B, N, n]
            total[..., own] += maps @ values[1 : 1 + count, own]
    return total


PRECISIONS = {torch.float32: 1e-6, torch.float16: 2e-3, torch.bfloat16: 1.5e-2}
"""How far the term may be from that of float64, as a share of its norm."""


@pytest.mark.parametrize("padding", [0.0, 0.5])
@pytest.mark.parametrize("count", [1, 2, 8])
@pytest.mark.parametrize("dtype", PRECISIONS, ids=str)
def test_a_layer_is_as_the_paper_says(dtype, count, padding, either_arithmetic):
    if dtype == torch.float16 and not multiplies_halves():
        pytest.skip(not_run.OLDER_TORCH)
    layer, query = layer_and_query(dtype)
    more = [make_concept(f"more {number}", 1 + number % 3, seed=20 + number) for number in range(count - len(CONCEPTS))]
    concepts, random = [*CONCEPTS, *more][:count], torch.Generator().manual_seed(2)
    tables = [*TABLES, *(-4 * torch.rand(2, one.count, generator=random) for one in more)][:count]
    expected = literal_term(layer, query, concepts, tables, padding)
    layer.module.to(dtype)
    rounded = [make(one, dtype) for one in concepts]
    term = RULE.term(LayerConcepts(layer, rounded, query[:, :1], padding))
    scales = Folds([layer]).scales(RULE, tuple(tables), tuple(rounded), padding, CPU)
    run_of_layer = LayerRun({QUERIES: query})
    with torch.no_grad():
        if either_arithmetic == "few kernels":
            found = torch.zeros_like(query)
            term.add_before(found, run_of_layer, scales)
        else:
            found = torch.zeros(*query.shape[:2], layer.out_projection.out_features, dtype=dtype)
            term.add(found, run_of_layer, scales.columns)
            expected = expected @ layer.out_projection.weight.double().T
    assert found.dtype == dtype
    assert float((found.double() - expected).norm() / expected.norm()) < PRECISIONS[dtype]


def make(concept, dtype):
    return type(concept)(concept.concept, concept.states.to(dtype), concept.tokens)


@pytest.mark.parametrize("at_once", [1, 2 * PIXELS * 32 * 2])
def test_many_concepts_are_attended_to_some_at_once(monkeypatch, at_once):
    """So that memory does not grow with their number."""
    layer, query = layer_and_query(torch.float32)
    tables = tuple(torch.tensor([[-1.0 * n], [-2.0]]) for n in range(1, 6))
    concepts = tuple(make_concept(f"number {n}", 1, seed=n) for n in range(5))
    found = []
    for numbers in (2**26, at_once):
        monkeypatch.setattr(growth_inhibitors, "_AT_ONCE", numbers)
        term, hidden = RULE.term(LayerConcepts(layer, concepts, query[:, :1])), torch.zeros_like(query)
        scales = Folds([layer]).scales(RULE, tables, concepts, 0.0, CPU)
        with torch.no_grad():
            term.add_before(hidden, LayerRun({QUERIES: query}), scales)
        found.append(hidden)
    assert_same(found[1], found[0])


def test_extreme_scores_stay_finite():
    layer, query = layer_and_query(torch.float32)
    term, hidden = RULE.term(LayerConcepts(layer, CONCEPTS, query[:, :1])), torch.zeros_like(query)
    scales = Folds([layer]).scales(RULE, tuple(TABLES), tuple(CONCEPTS), 0.0, CPU)
    with torch.no_grad():
        term.add_before(hidden, LayerRun({QUERIES: query * 1e4}), scales)
    assert torch.isfinite(hidden).all()
    assert hidden.norm() > 0


# -- a UNet ------------------------------------------------


@pytest.mark.parametrize("rows", [(0, None, 1), (None, 0, None, 1)])
def test_rows_that_are_no_neighbours(unet, rows, before):
    batch, targets = make_batch(rows), lambda: [Target(CONCEPTS[1], PerImage(TABLES[1]))]
    expected = erase(unet, batch, targets())
    with few_kernels():
        found = erase(unet, batch, targets())
    assert before
    assert_same(found, expected)
    unconditional = [index for index, row in enumerate(rows) if row is None]
    assert torch.equal(found[unconditional], stock(unet, batch)[unconditional])


def test_gradients_are_the_same(unet, batch, before):
    """What trains through a layer finds its input as it was."""
    found = []
    for way in (False, True):
        latents, one = batch.latents.clone().requires_grad_(), erasure()
        with few_kernels() if way else torch.enable_grad(), attach(unet.module, one):
            one.begin(batch.rows, 0.0)
            unet(latents, batch.timesteps, batch.context).square().sum().backward()
        found.append(latents.grad)
    assert before
    torch.testing.assert_close(found[1], found[0], atol=1e-4 * float(found[0].abs().max()), rtol=1e-4)


def test_a_w_o_that_changes_on_the_way_counts(unet, batch):
    """A LoRA's part of W_o is the layer's own."""
    with few_kernels():
        one = erasure()
        with attach(unet.module, one):
            run(unet, batch, one)
            for module in unet.cross_attention:
                module.to_out[0].register_forward_hook(lambda module, args, output: 2 * output)
            found = run(unet, batch, one)
        expected = run_anew(unet, batch)
    assert_same(found, expected)


def run_anew(unet, batch):
    one = erasure()
    with attach(unet.module, one):
        return run(unet, batch, one)


def test_a_w_o_that_is_replaced_on_the_way(unet, batch, before):
    """The hook is lost with it: the term is added after the layer."""
    with few_kernels():
        one = erasure()
        with attach(unet.module, one):
            expected = run(unet, batch, one)
            first = len(before)
            for module in unet.cross_attention:
                module.to_out[0] = same(module.to_out[0])
            found = run(unet, batch, one)
    assert first
    assert len(before) == first
    assert_same(found, expected)


def same(linear):
    made = torch.nn.Linear(linear.in_features, linear.out_features)
    made.load_state_dict(linear.state_dict())
    return made


def patched_class(monkeypatch, unet, around):
    """The class's forward is another one, as the WebUI's optimisations put it there."""
    kind = type(unet.cross_attention[0])
    plain = kind.forward
    monkeypatch.setattr(kind, "forward", lambda self, *args, **kwargs: around(plain, self, *args, **kwargs))


def test_a_w_o_that_runs_twice_is_an_error(unet, batch, monkeypatch):
    def twice(plain, self, *args, **kwargs):
        output = plain(self, *args, **kwargs)
        self.to_out[0](torch.zeros(len(output), 1, self.to_out[0].in_features))
        return output

    patched_class(monkeypatch, unet, twice)
    one = erasure()
    with few_kernels(), attach(unet.module, one), pytest.raises(ErasureError, match="ran its to_out twice"):
        run(unet, batch, one)
    with pytest.raises(ErasureError, match="ran its to_out twice"):
        one.finish()


def test_a_w_o_that_runs_for_some_rows_has_the_term_after_the_layer(unet, batch, monkeypatch, before):
    expected = run_anew(unet, batch)

    def row_by_row(plain, self, x, context=None, encoder_hidden_states=None, **kwargs):
        context = encoder_hidden_states if context is None else context
        if context is None:
            return plain(self, x, **kwargs)
        return torch.cat([plain(self, *rows, **kwargs) for rows in zip(x.split(1), context.split(1), strict=True)])

    patched_class(monkeypatch, unet, row_by_row)
    with few_kernels():
        found = run_anew(unet, batch)
    assert not before
    assert_same(found, expected)


# -- layers that are run in another way ------------------------------------------------


def effect(unet, batch, **options):
    """How far erasure moves the conditional rows, as a share of them."""
    one, plain = erasure(**options), stock(unet, batch)
    with attach(unet.module, one):
        found = run(unet, batch, one)
    return found, float((found - plain)[:2].norm() / plain[:2].norm())


def context_of(context, encoder_hidden_states):
    return encoder_hidden_states if context is None else context


def test_a_w_o_that_runs_for_some_rows_first(unet, batch, monkeypatch):
    """Then for all: what it made of some must not stay as it was."""

    def some_first(plain, self, x, context=None, encoder_hidden_states=None, **kwargs):
        context = context_of(context, encoder_hidden_states)
        if context is None:
            return plain(self, x, **kwargs)
        first = plain(self, x[:2], context[:2])
        return torch.cat([first, plain(self, x, context)[2:]])

    patched_class(monkeypatch, unet, some_first)
    expected, moved = effect(unet, batch)
    with few_kernels():
        found, _ = effect(unet, batch)
    assert moved > 1e-3
    assert_same(found, expected)


def test_a_layer_that_ran_its_w_o_twice_is_added_to_afterwards_from_then_on(unet, batch, monkeypatch):
    def twice(plain, self, x, context=None, encoder_hidden_states=None, **kwargs):
        context = context_of(context, encoder_hidden_states)
        if context is None:
            return plain(self, x, **kwargs)
        return (plain(self, x, context) + plain(self, x, context)) / 2

    patched_class(monkeypatch, unet, twice)
    expected = run_anew(unet, batch)
    with few_kernels():
        for _ in unet.cross_attention:
            with pytest.raises(ErasureError, match="Make the image once more"):
                run_anew(unet, batch)
        found = run_anew(unet, batch)
    assert_same(found, expected)


def test_a_w_o_keeps_its_other_arguments(unet, batch):
    """As a LoRA's strength is given to it by older versions of diffusers."""

    class Scaled(torch.nn.Linear):
        def forward(self, hidden, factor=1.0):
            return super().forward(hidden) * factor

    for module in unet.cross_attention:
        scaled = Scaled(module.to_out[0].in_features, module.to_out[0].out_features)
        scaled.load_state_dict(module.to_out[0].state_dict())
        module.to_out[0] = scaled
    given = []
    for module in unet.cross_attention:
        module.to_out[0].register_forward_pre_hook(lambda module, args: given.append(len(args)))
        module.to_out[0].register_forward_pre_hook(lambda module, args: (args[0], 0.25), prepend=True)
    with few_kernels():
        run_anew(unet, batch)
    assert set(given) == {2}


def test_an_attention_that_takes_no_scale(unet, batch, monkeypatch):
    """Extensions put attention in torch's place that divides by sqrt(d), whatever it is given."""
    expected = run_anew(unet, batch)
    plain = torch.nn.functional.scaled_dot_product_attention

    def other(query, key, value, attn_mask=None, dropout_p=0.0, is_causal=False, **ignored):
        return plain(query, key, value, attn_mask, dropout_p, is_causal)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", other)
    with few_kernels():
        assert_same(run_anew(unet, batch), expected)


def test_maps_of_a_pass_of_its_own_do_not_serve_another_erasure(unet, batch, either_arithmetic):
    """Two erasures of one concept on one ledger: one with a pass of its own that is recorded, one without."""
    outputs = []
    for recorder in (None, AttentionRecorder()):
        separate = Erasure([Target(CONCEPTS[0], FixedScale(-2))], concept_pass="separate", recorder=recorder)
        fused = Erasure([Target(CONCEPTS[0], FixedScale(-3))], ledger=separate.ledger)
        with torch.no_grad(), attach(unet.module, separate), attach(unet.module, fused):
            separate.begin(batch.rows, 0.0)
            fused.begin_step(0.0)
            outputs.append(unet(*batch.arguments))
    assert_same(outputs[1], outputs[0])
