"""One layer: its maps are a softmax's, in pieces as in one, and extreme scores do not break them."""

from __future__ import annotations

import pytest
import torch
from tiny import CONTEXT_WIDTH, build_ldm, make_concept

from lib_gie.core import layer_concepts
from lib_gie.core.layer_concepts import LayerConcepts
from lib_gie.core.layers import find_cross_attention
from lib_gie.core.rules.growth_inhibitors import RULE
from lib_gie.core.rules.protocol import QUERIES, LayerRun

CONCEPTS = [make_concept("knife", 1), make_concept("red wine", 2, seed=9), make_concept("beer", 1, seed=4)]
PIXELS = 16


@pytest.fixture(scope="module")
def layer():
    return find_cross_attention(build_ldm().module)[0]


def query_of(layer) -> torch.Tensor:
    return torch.randn(2, PIXELS, layer.module.to_q.out_features, generator=torch.Generator().manual_seed(1))


def make(layer, padding=0.0) -> LayerConcepts:
    like = torch.zeros(1, 1, CONTEXT_WIDTH, dtype=layer.module.to_k.weight.dtype)
    return LayerConcepts(layer, CONCEPTS, like, padding)


def literal_scores(layer, encoded, query) -> torch.Tensor:
    """[B, h, N, L]"""
    keys = layer.module.to_k(encoded.states)  # [L, h*d]
    width = keys.shape[1] // layer.heads
    split = query.view(*query.shape[:2], layer.heads, width)  # [B, N, h, d]
    return torch.einsum("bnhd,lhd->bhnl", split, keys.view(-1, layer.heads, width)) / width**0.5


@pytest.mark.parametrize("padding", [0.0, 0.5])
@pytest.mark.parametrize("chunk", [1, 500, 2**19])
def test_all_concepts_at_once_in_any_pieces(layer, padding, chunk, monkeypatch):
    monkeypatch.setattr(layer_concepts, "_CHUNK", chunk)
    query, output = query_of(layer), torch.randn(2, PIXELS, layer.out_projection.out_features)
    scales = [torch.rand(2, encoded.count) - 1 for encoded in CONCEPTS]
    expected = output.clone()
    with torch.no_grad():
        for encoded, scale in zip(CONCEPTS, scales, strict=True):
            maps = literal_scores(layer, encoded, query).softmax(-1)  # [B, h, N, L]
            weights = torch.zeros(2, len(encoded.states))  # [B, L]
            weights[:, encoded.span] = scale
            weights[:, encoded.span.stop :] = padding * scale.mean(1, keepdim=True)
            values = layer.module.to_v(encoded.states).unflatten(-1, (layer.heads, -1))  # [L, h, d]
            added = torch.einsum("bhnl,bl,lhd->bnhd", maps, weights, values).flatten(2)  # [B, N, h*d]
            expected += added @ layer.out_projection.weight.T
        term = RULE.term(make(layer, padding=padding))
        term.add(output, LayerRun({QUERIES: query}), RULE.columns(scales, CONCEPTS, padding))
    torch.testing.assert_close(output, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("chunk", [1, 2**19])
def test_maps_of_each_concept(layer, chunk, monkeypatch):
    monkeypatch.setattr(layer_concepts, "_CHUNK", chunk)
    concepts, query = make(layer), query_of(layer)
    with torch.no_grad():
        for number, encoded in enumerate(CONCEPTS):
            expected = literal_scores(layer, encoded, query).softmax(-1)[..., encoded.span]  # [B, h, N, n]
            torch.testing.assert_close(concepts.maps(query, number), expected, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("factor", [100.0, -100.0])
def test_extreme_scores_give_no_nan(layer, factor):
    """Far above or below BOS: what is far below counts nothing, and nothing overflows."""
    query = factor * query_of(layer)
    with torch.no_grad():
        maps = make(layer).maps(query, 1)
    assert torch.isfinite(maps).all()
    assert maps.min() >= 0
    assert maps.sum(-1).max() <= 1 + 1e-5


def test_half_precision(layer):
    concepts, query = make(layer), query_of(layer)
    half = make(find_cross_attention(build_ldm().module.to(torch.bfloat16))[0])
    with torch.no_grad():
        found = half.maps(query.to(torch.bfloat16), 0)
        assert found.dtype == torch.float32
        torch.testing.assert_close(found, concepts.maps(query, 0), atol=0.02, rtol=0.1)
