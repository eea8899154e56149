"""Value projection against a literal implementation, on real ldm and diffusers modules."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from literal import LiteralValueProjection
from test_algorithm import assert_same, erase, stock
from tiny import make_batch, make_concept

from lib_gie.core.composition import Composition, Trace
from lib_gie.core.erasure import Erasure, Target
from lib_gie.core.recorder import PAPER, AttentionRecorder
from lib_gie.core.rules.value_projection import shift_factors
from lib_gie.core.scales.scale_rules import FixedScale, PromptFacts
from lib_gie.core.session import attach
from lib_gie.errors import ErasureError, OptionError

RULE = "value projection"
KNIFE, STYLE = make_concept("knife", 1, seed=5), make_concept("van gogh style", 3, seed=6)


def prompted(batch, concepts=(KNIFE, STYLE), likeness=0.97):
    """The batch with prompts some of whose tokens are like the concepts' last ones, and some less so."""
    context = batch.context.clone()  # [B, L, D]
    for number, concept in enumerate(concepts):
        for step in range(6):
            position = 2 + 9 * number + step
            share = likeness - 0.08 * step
            context[:, position] = share * concept.states[concept.count] + (1 - share) * context[:, position]
    return dataclasses.replace(batch, context=context)


def literal(unet, batch, concepts):
    """``concepts``: pairs of a concept and its scale."""
    images = 1 + max(row for row in batch.rows if row is not None)
    told = [(concept.states, concept.count, torch.full((images,), scale)) for concept, scale in concepts]
    with torch.no_grad(), LiteralValueProjection(unet.cross_attention, told, batch.rows) as projection:
        return projection.step(unet, *batch.arguments)


@pytest.mark.parametrize("scale", [-1.0, -0.4])
@pytest.mark.parametrize("count", [1, 2])
def test_equals_the_literal_projection(unet, batch, count, scale):
    batch = prompted(batch)
    pairs = [(KNIFE, scale), (STYLE, 0.5 * scale)][:count]
    ours = erase(unet, batch, [Target(concept, FixedScale(w)) for concept, w in pairs], rule=RULE)
    assert_same(ours, literal(unet, batch, pairs))
    assert (ours - stock(unet, batch))[:2].abs().max() > 1e-2  # and it does something


@pytest.mark.parametrize("length", [77, 154])
@pytest.mark.parametrize("rows", [(0, None), (None, 0, None, 1), (0, 0, 1, None)], ids=lambda rows: str(rows))
def test_rows_and_prompt_lengths(unet, rows, length):
    batch = prompted(make_batch(rows, length))
    ours = erase(unet, batch, [Target(KNIFE, FixedScale(-1.0))], rule=RULE)
    assert_same(ours, literal(unet, batch, [(KNIFE, -1.0)]))
    unconditional = [index for index, row in enumerate(rows) if row is None]
    assert torch.equal(ours[unconditional], stock(unet, batch)[unconditional])


def test_scale_zero_is_bit_identical(unet, batch):
    batch = prompted(batch)
    assert torch.equal(erase(unet, batch, [Target(KNIFE, FixedScale(0))], rule=RULE), stock(unet, batch))


def test_the_same_concept_twice_is_taken_out_once(unet, batch):
    """Its two directions are one: there is no more to take out along it."""
    batch = prompted(batch)
    once = erase(unet, batch, [Target(KNIFE, FixedScale(-1.0))], rule=RULE)
    twice = erase(unet, batch, [Target(KNIFE, FixedScale(-1.0))] * 2, rule=RULE)
    torch.testing.assert_close(twice, once, atol=1e-4, rtol=1e-4)


def test_values_unlike_the_concepts_keep_all(unet, batch):
    """The shift factor is the paper's way to leave other concepts alone."""
    ours = erase(unet, batch, [Target(KNIFE, FixedScale(-1.0))], rule=RULE)
    torch.testing.assert_close(ours, stock(unet, batch), atol=1e-4, rtol=1e-4)
    assert shift_factors(torch.tensor([0.5, 0.93, 1.0])).tolist() == pytest.approx([0, 1, 2], abs=2e-3)


def test_beside_growth_inhibitors(unet, batch):
    """Each erasure of a UNet has its rule: an admin's and a user's may differ, and both are erased from."""
    batch = prompted(batch)

    def both(first, second):
        erasures = [
            Erasure([Target(KNIFE, FixedScale(first))]),
            Erasure([Target(STYLE, FixedScale(second))], rule=RULE),
        ]
        with torch.no_grad(), attach(unet.module, erasures[0]), attach(unet.module, erasures[1]):
            for one in erasures:
                one.begin(batch.rows, 0.0)
            return unet(*batch.arguments)

    alone = erase(unet, batch, [Target(STYLE, FixedScale(-1.0))], rule=RULE)
    inhibited = erase(unet, batch, [Target(KNIFE, FixedScale(-3.0))])
    assert_same(both(0.0, -1.0), alone)
    assert_same(both(-3.0, 0.0), inhibited)
    together = both(-3.0, -1.0)
    assert min((together - one)[:2].abs().max() for one in (alone, inhibited)) > 1e-3


def test_attention_is_recorded_and_the_composition_kept(unet, batch):
    batch = prompted(batch)
    trace, recorder = Trace(), AttentionRecorder()
    erase(unet, batch, [Target(KNIFE, FixedScale(0.0))], trace=trace)
    target = Target(KNIFE, FixedScale(-1.0))
    kept = erase(unet, batch, [target], rule=RULE, composition=Composition(trace), recorder=recorder)
    assert (kept - stock(unet, batch))[:2].abs().max() > 1e-2
    assert recorder.strongest(0, 0) > 0


def test_emphasis_is_in_the_values_already(unet, batch):
    erasure = Erasure([Target(KNIFE, FixedScale(-1.0))], rule=RULE)
    erasure.facts.update({0: PromptFacts(emphasis=2.0), 1: PromptFacts(emphasis=50.0)})
    with torch.no_grad(), attach(unet.module, erasure):
        erasure.begin(batch.rows, 0.0)
        unet(*batch.arguments)
    assert [float(erasure.scales[row][0]) for row in (0, 1)] == [-1.0, -1.0]


class Reads:
    """Test rule of scales that reads attention, as an adapter does."""

    readings = (PAPER,)
    optional = ()

    def check_model(self, family, heads):
        pass


@pytest.mark.parametrize(
    ("rule", "options", "said"),
    [
        (FixedScale(-1), {"concept_pass": "separate"}, "concept_pass is 'separate', and rule is 'value projection'"),
        (FixedScale(-1), {"padding": 0.5}, "padding is 0.5, and rule is 'value projection'"),
        (Reads(), {}, "adapters are fitted on growth inhibitors"),
    ],
)
def test_what_belongs_to_growth_inhibitors_is_refused(rule, options, said):
    with pytest.raises(OptionError, match=said):
        Erasure([Target(KNIFE, rule)], rule=RULE, **options)
    with pytest.raises(OptionError, match="rule is 'projection'; it must be one of"):
        Erasure([Target(KNIFE, FixedScale(-1))], rule="projection")


def test_a_layer_that_does_not_call_its_value_projection_is_refused(unet, batch):
    """Fused projections, for example: nothing could be taken out of values that are not seen."""
    layer = unet.cross_attention[0]
    layer.forward = lambda x, context=None, encoder_hidden_states=None, *args, **kwargs: layer.to_q(x)
    try:
        with pytest.raises(ErasureError, match=r"without calling its to_[kv]"):
            erase(unet, batch, [Target(KNIFE, FixedScale(-1.0))], rule=RULE)
    finally:
        del layer.forward
