"""The hooks against a literal Algorithm 1, on real ldm and diffusers modules."""

from __future__ import annotations

import not_run
import pytest
import torch
from literal import LiteralGIE
from tiny import BUILDERS, make_batch, make_concept, multiplies_halves

from lib_gie.core.erasure import Erasure, Target
from lib_gie.core.scales.scale_rules import FixedScale
from lib_gie.core.session import attach

pytestmark = pytest.mark.usefixtures("either_arithmetic")


class PerImage:
    """Test rule: other scales for every image and token."""

    readings = ()
    optional = ()

    def __init__(self, table: torch.Tensor):
        self.table, self.given = table, 0

    def scales(self, inputs, rows, tokens):
        self.given += rows
        return self.table[self.given - rows : self.given]

    def check_model(self, family, heads):
        pass


def erase(unet, batch, targets, **options):
    erasure = Erasure(targets, **options)
    with torch.no_grad(), attach(unet.module, erasure):
        erasure.begin(batch.rows, 0.0)
        output = unet(*batch.arguments)
    erasure.finish()
    return output


def literal(unet, batch, concepts, concept_pass="fused"):
    with torch.no_grad(), LiteralGIE(unet.cross_attention, concepts, batch.rows) as gie:
        return gie.step(unet, *batch.arguments, concept_pass)


def stock(unet, batch):
    with torch.no_grad():
        return unet(*batch.arguments)


def assert_same(ours, expected):
    """To 1e-5 of the output's largest value: how sums are rounded differs from processor to processor."""
    torch.testing.assert_close(ours, expected, atol=1e-5 * float(expected.abs().max()), rtol=1e-5)


CONCEPTS = [make_concept("knife", 1, seed=5), make_concept("van gogh style", 3, seed=6)]
TABLES = [torch.tensor([[-3.0], [-1.5]]), torch.tensor([[-2.0, -0.5, -1.0], [-1.0, -4.0, 0.0]])]


@pytest.mark.parametrize("concept_pass", ["fused", "separate"])
@pytest.mark.parametrize("count", [1, 2])
def test_equals_literal_algorithm(unet, batch, concept_pass, count):
    targets = [Target(c, PerImage(t)) for c, t in zip(CONCEPTS[:count], TABLES, strict=False)]
    ours = erase(unet, batch, targets, concept_pass=concept_pass)
    concepts = [(c.states, c.count, t) for c, t in zip(CONCEPTS[:count], TABLES, strict=False)]
    expected = literal(unet, batch, concepts, concept_pass)
    assert_same(ours, expected)
    assert (ours - stock(unet, batch))[:2].abs().max() > 1e-2  # and it does something


@pytest.mark.parametrize("concept_pass", ["fused", "separate"])
def test_padding_is_inhibited_as_the_own_tokens_are(unet, batch, concept_pass):
    """The literal algorithm with every token after BOS for the concept's own."""
    concept, table = CONCEPTS[1], TABLES[1]
    ours = erase(unet, batch, [Target(concept, PerImage(table))], concept_pass=concept_pass, padding=0.5)
    rest = len(concept.states) - 1 - concept.count
    every = torch.cat([table, 0.5 * table.mean(1, keepdim=True).expand(-1, rest)], 1)  # [images, L - 1]
    expected = literal(unet, batch, [(concept.states, len(concept.states) - 1, every)], concept_pass)
    assert_same(ours, expected)
    own = erase(unet, batch, [Target(concept, PerImage(table))], concept_pass=concept_pass)
    assert (ours - own)[:2].abs().max() > 1e-3


def test_fused_and_separate_differ(unet, batch):
    target = [Target(CONCEPTS[0], FixedScale(-3))]
    fused, separate = (erase(unet, batch, target, concept_pass=name) for name in ("fused", "separate"))
    assert (fused - separate)[:2].abs().max() > 1e-3


@pytest.mark.parametrize("length", [77, 154, 231])
@pytest.mark.parametrize(
    "rows", [(0, None), (None, 0), (0, 1, 2), (None, 0, None, 1), (0, 0, 1, None)], ids=lambda rows: str(rows)
)
def test_rows_and_prompt_lengths(unet, rows, length):
    batch = make_batch(rows, length)
    table = torch.tensor([[-3.0], [-1.0], [-2.0]])
    ours = erase(unet, batch, [Target(CONCEPTS[0], FixedScale(-2.5))])
    expected = literal(unet, batch, [(CONCEPTS[0].states, 1, torch.full_like(table, -2.5))])
    assert_same(ours, expected)
    unconditional = [index for index, row in enumerate(rows) if row is None]
    assert torch.equal(ours[unconditional], stock(unet, batch)[unconditional])


def test_scale_zero_is_bit_identical(unet, batch):
    targets = [Target(concept, FixedScale(0)) for concept in CONCEPTS]
    assert torch.equal(erase(unet, batch, targets), stock(unet, batch))
    strength = [Target(CONCEPTS[0], FixedScale(-3))]
    assert torch.equal(erase(unet, batch, strength, strength=0), stock(unet, batch))


def test_one_scale_zero_among_others_leaves_that_image(unet, batch):
    output = erase(unet, batch, [Target(CONCEPTS[0], PerImage(torch.tensor([[0.0], [-3.0]])))])
    plain = stock(unet, batch)
    torch.testing.assert_close(output[0], plain[0], atol=1e-6, rtol=1e-6)
    assert (output[1] - plain[1]).abs().max() > 1e-2


def test_weight_and_strength_multiply_the_scale(unet, batch):
    weighted = make_concept("knife", 1, weight=0.5, seed=5)
    ours = erase(unet, batch, [Target(weighted, FixedScale(-4))], strength=1.5)
    plain = erase(unet, batch, [Target(CONCEPTS[0], FixedScale(-3))])
    torch.testing.assert_close(ours, plain)


@pytest.mark.parametrize("heads", [1, 2, 4, 8])
@pytest.mark.parametrize("library", sorted(BUILDERS))
def test_any_number_of_heads(library, heads, batch):
    unet = BUILDERS[library](heads)
    ours = erase(unet, batch, [Target(CONCEPTS[1], FixedScale(-2))])
    expected = literal(unet, batch, [(CONCEPTS[1].states, 3, torch.full((2, 3), -2.0))])
    assert_same(ours, expected)


@pytest.mark.parametrize(("progress", "changes"), [(0.0, False), (0.2, True), (0.79, True), (0.8, False), (1, False)])
def test_start_and_end(unet, batch, progress, changes):
    erasure = Erasure([Target(CONCEPTS[0], FixedScale(-3))], start=0.2, end=0.8)
    with torch.no_grad(), attach(unet.module, erasure):
        erasure.begin(batch.rows, progress)
        output = unet(*batch.arguments)
    assert torch.equal(output, stock(unet, batch)) != changes


def test_a_call_split_into_parts_gives_the_same(unet):
    batch = make_batch((0, 1, None, None))
    target = Target(CONCEPTS[0], PerImage(torch.tensor([[-3.0], [-1.0]])))
    whole = erase(unet, batch, [target])
    target.rule.given = 0
    erasure = Erasure([target])
    parts = []
    with torch.no_grad(), attach(unet.module, erasure):
        erasure.begin(batch.rows, 0.0)
        for rows in (slice(0, 1), slice(1, 3), slice(3, 4)):
            parts.append(unet(batch.latents[rows], batch.timesteps[rows], batch.context[rows]))
    erasure.finish()
    torch.testing.assert_close(torch.cat(parts), whole, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.bfloat16, 0.08), (torch.float16, 0.01)])
def test_half_precision(unet, batch, dtype, tolerance):
    autocast = unet.library != "diffusers"
    if autocast and dtype == torch.float16 and tuple(map(int, torch.__version__.split(".")[:2])) < (2, 3):
        pytest.skip(not_run.OLDER_TORCH)  # without fp16 autocast on the CPU
    if dtype == torch.float16 and not multiplies_halves():
        pytest.skip(not_run.OLDER_TORCH)
    exact = erase(unet, batch, [Target(CONCEPTS[1], FixedScale(-2))])
    unet.module.to(dtype)
    for module in unet.module.modules():
        if type(module).__name__ == "GroupNorm32":
            module.float()
    batch.latents, batch.context = batch.latents.to(dtype), batch.context.to(dtype)
    # ldm's own half precision is half weights under autocast: parts of it compute in fp32
    with torch.autocast("cpu", dtype=dtype, enabled=autocast):
        ours = erase(unet, batch, [Target(CONCEPTS[1], FixedScale(-2))])
        plain = stock(unet, batch)
    assert ours.dtype == dtype
    error = (ours.float() - exact).abs().max() / exact.abs().max()
    assert error < tolerance
    assert torch.equal(ours[2:], plain[2:])


def test_autocast(unet, batch):
    exact = erase(unet, batch, [Target(CONCEPTS[0], FixedScale(-3))])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        ours = erase(unet, batch, [Target(CONCEPTS[0], FixedScale(-3))])
    assert (ours.float() - exact).abs().max() / exact.abs().max() < 0.08
