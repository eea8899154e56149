"""Other ways to compute one layer's term that were tried, timed beside the one that is used."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from diffusers.models.attention_processor import Attention
from torch.nn.functional import scaled_dot_product_attention
from tqdm import tqdm

from lib_gie.core.concepts import Concept
from lib_gie.core.encoding import EncodedConcept
from lib_gie.core.layer_concepts import LayerConcepts
from lib_gie.core.layers import AttentionLayer
from lib_gie.core.rules.growth_inhibitors import RULE, GrowthTerm
from lib_gie.core.rules.protocol import QUERIES, LayerRun
from lib_gie.randomness import undrawn

SHAPES = ((4096, 320), (1024, 320), (256, 640), (64, 1280))
"""Pixels and channels of SD 1.5's layers, the first at 512x512, the others at 256x256."""

COUNTS = (1, 8)
TOKENS, HEADS, LENGTH, WIDTH = 2, 8, 77, 768
_REPEATS = 25


@dataclass
class Case:
    """One layer, its concepts and the tensors of one call, for one image."""

    layer: Attention
    term: GrowthTerm
    count: int
    scales: torch.Tensor  # [1, columns]
    query: torch.Tensor  # [1, N, h*d]
    output: torch.Tensor  # [1, N, C_out]
    context: torch.Tensor  # [1, L, D]

    @property
    def split(self) -> torch.Tensor:
        """Return the query by heads, [1, h, N, d]."""
        return self.query.unflatten(-1, (HEADS, -1)).transpose(1, 2)

    def parts(self) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
        """Yield each concept's K* [h, d, L], U [h*n, C_out] and w [1, n]."""
        outputs = self.term.outputs.unflatten(0, (HEADS, self.count, TOKENS))  # [h, k, n, C_out]
        for number in range(self.count):
            keys = self.term.concepts.keys[..., number * LENGTH : (number + 1) * LENGTH]
            columns = slice(number * TOKENS, (number + 1) * TOKENS)
            yield keys, outputs[:, number].flatten(0, 1), self.scales[:, columns]


@undrawn()
def make_case(device: torch.device, pixels: int, channels: int, count: int) -> Case:
    """Make a case of random weights, states and queries."""
    dtype = torch.float32 if device.type == "cpu" else torch.float16
    torch.manual_seed(0)
    layer = Attention(channels, WIDTH, heads=HEADS, dim_head=channels // HEADS).to(device, dtype)
    encoded = [
        EncodedConcept(Concept(f"concept {k}"), torch.randn(LENGTH, WIDTH), ["a"] * TOKENS) for k in range(count)
    ]
    context = torch.randn(1, LENGTH, WIDTH, device=device, dtype=dtype)
    made = RULE.term(LayerConcepts(AttentionLayer("layer", layer), encoded, context))
    scales = RULE.columns([torch.full((1, TOKENS), -1.0)] * count, encoded).to(device)
    query, output = (torch.randn(1, pixels, channels, device=device, dtype=dtype) for _ in range(2))
    return Case(layer, made, count, scales, query, output, context)


def used(case: Case) -> None:
    """Compute the term as it is used: one product for all concepts, measured from BOS, in chunks."""
    case.term.add(case.output, LayerRun({QUERIES: case.query}), case.scales)


def one_by_one(case: Case) -> None:
    """Compute each concept's term by itself, from the logarithm of the sum, as earlier versions did."""
    total: Any = 0  # then a tensor
    for keys, outputs, scale in case.parts():
        scores = (case.split @ keys).float()  # [1, h, N, L]
        maps = (scores[..., 1 : 1 + TOKENS] - scores.logsumexp(-1, keepdim=True)).exp()  # [1, h, N, n]
        left = (maps * scale[:, None, None]).transpose(1, 2).flatten(2)  # [1, N, h*n]
        total = total + left.to(outputs.dtype) @ outputs  # [1, N, C_out]
    case.output += total


def softmax(case: Case) -> None:
    """Compute the term by torch's softmax over all concepts at once, without chunks."""
    scores = (case.split @ case.term.concepts.keys).unflatten(-1, (case.count, LENGTH))  # [1, h, N, k, L]
    maps = scores.float().softmax(-1)[..., 1 : 1 + TOKENS].flatten(3)  # [1, h, N, columns]
    left = (maps * case.scales[:, None, None]).transpose(1, 2).flatten(2)  # [1, N, h*columns]
    case.output += left.to(case.output.dtype) @ case.term.outputs


def attention(case: Case) -> None:
    """Compute the term before W_o by torch's attention, with values that are zero except for the concept's tokens."""
    total: Any = 0  # then a tensor
    for keys, _, scale in case.parts():
        values = torch.zeros(1, HEADS, LENGTH, keys.shape[1], device=keys.device, dtype=keys.dtype)  # [1, h, L, d]
        values[:, :, 1 : 1 + TOKENS] = scale[:, None, :, None].to(keys.dtype)
        total = total + scaled_dot_product_attention(case.split, keys.transpose(1, 2)[None], values, scale=1.0)
    case.output += total.transpose(1, 2).flatten(2)  # [1, N, h*d]


def whole_layer(case: Case) -> None:
    """Run the layer itself, for comparison."""
    case.layer(case.query, encoder_hidden_states=case.context)


WAYS: dict[str, Callable[[Case], None]] = {
    "the layer itself": whole_layer,
    "as it is": used,
    "concept by concept, logsumexp": one_by_one,
    "softmax, no chunks": softmax,
    "attention kernel, before W_o": attention,
}


def _milliseconds(case: Case, way: Callable[[Case], None]) -> float:
    started = time.perf_counter()
    way(case)
    if case.query.is_cuda:
        torch.cuda.synchronize()
    return 1000 * (time.perf_counter() - started)


@torch.no_grad()
def layer_times(device: torch.device) -> list[dict]:
    """Measure the median milliseconds of every way, in turn, for every shape and number of concepts."""
    rows = []
    for pixels, channels in tqdm(SHAPES, desc="layers"):
        for count in COUNTS:
            case = make_case(device, pixels, channels, count)
            times: dict[str, list[float]] = {name: [] for name in WAYS}
            for number in range(_REPEATS + 2):
                for name, way in WAYS.items():
                    spent = _milliseconds(case, way)
                    if number > 1:
                        times[name].append(spent)
            medians = {name: round(statistics.median(spent), 3) for name, spent in times.items()}
            rows.append({"pixels": pixels, "channels": channels, "concepts": count, **medians})
    return rows
