"""UNets of the real sizes without weights, and small ones with what SDXL and inpainting models add to a call."""

from __future__ import annotations

import not_run
import pytest
import torch
from test_hooks import hooks_of
from tiny import _OPENAI_UNET, CONTEXT_WIDTH, randomise

from lib_gie.core.concepts import Concept
from lib_gie.core.encoding import EncodedConcept
from lib_gie.core.erasure import Erasure, Target
from lib_gie.core.layers import family_of, find_cross_attention, find_self_attention
from lib_gie.core.recorder import Reading
from lib_gie.core.scales.scale_rules import FixedScale
from lib_gie.core.session import attach, read_attention

_DOWN, _UP = "CrossAttnDownBlock2D", "CrossAttnUpBlock2D"
_SDXL = {
    "cross_attention_dim": 2048, "block_out_channels": (320, 640, 1280), "transformer_layers_per_block": (1, 2, 10),
    "attention_head_dim": (5, 10, 20), "down_block_types": ("DownBlock2D", _DOWN, _DOWN),
    "up_block_types": (_UP, _UP, "UpBlock2D"), "use_linear_projection": True, "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256, "projection_class_embeddings_input_dim": 2816,
}  # fmt: skip
_REFINER = {
    **_SDXL, "cross_attention_dim": 1280, "block_out_channels": (384, 768, 1536, 1536),
    "transformer_layers_per_block": 4, "attention_head_dim": (6, 12, 24, 24),
    "down_block_types": ("DownBlock2D", _DOWN, _DOWN, "DownBlock2D"),
    "up_block_types": ("UpBlock2D", _UP, _UP, "UpBlock2D"), "projection_class_embeddings_input_dim": 2560,
}  # fmt: skip
_SD2 = {"cross_attention_dim": 1024, "attention_head_dim": (5, 10, 20, 20), "use_linear_projection": True}


@pytest.mark.parametrize(
    ("config", "layers", "family"),
    [
        (_SDXL, 70, "sdxl"),
        (_REFINER, 44, "sdxl-refiner"),
        (_SD2, 16, "sd2"),
        ({"cross_attention_dim": 768, "in_channels": 9}, 16, "sd1"),
        ({"cross_attention_dim": 768, "in_channels": 8}, 16, "sd1"),
        ({"cross_attention_dim": 640}, 16, "width-640"),
    ],
)
def test_layers_and_family_of_real_unets(config, layers, family):
    diffusers = pytest.importorskip("diffusers", reason=not_run.DIFFUSERS)
    with torch.device("meta"):
        unet = diffusers.UNet2DConditionModel(**config)
    found = find_cross_attention(unet)
    assert len(found) == len(find_self_attention(unet)) == layers
    assert family_of(found) == family


# -- small ones that run ------------------------------------------------


def _unet(**more) -> torch.nn.Module:
    from ldm.modules.diffusionmodules.openaimodel import UNetModel

    return randomise(UNetModel(image_size=8, num_heads=2, **{**_OPENAI_UNET, **more}))


def _concept(seed: int = 0) -> EncodedConcept:
    states = torch.randn(77, CONTEXT_WIDTH, generator=torch.Generator().manual_seed(seed))  # [77, D]
    return EncodedConcept(Concept("knife"), states, ["knife"])


def _given(rows: int, channels: int = 4, seed: int = 1) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Latents [rows, channels, 8, 8], timesteps [rows], context [rows, 77, D]."""
    generator = torch.Generator().manual_seed(seed)
    latents = torch.randn(rows, channels, 8, 8, generator=generator)
    return latents, torch.full((rows,), 500), torch.randn(rows, 77, CONTEXT_WIDTH, generator=generator)


class Vector(torch.nn.Module):
    """Called as sgm calls SDXL's UNet, by name; ``y`` [rows, 6] takes part in the result."""

    def __init__(self):
        super().__init__()
        self.inner = _unet()
        self.seen: list[torch.Tensor] = []

    def forward(self, x, timesteps=None, context=None, y=None):
        assert len(x) == len(timesteps) == len(context) == len(y)
        self.seen.append(y)
        return self.inner(x, timesteps, context=context) * (1 + y.mean(1).view(-1, 1, 1, 1))  # [rows, 4, 8, 8]


@pytest.mark.parametrize("concept_pass", ["fused", "separate"])
@torch.no_grad()
def test_a_vector_goes_with_its_rows(concept_pass):
    unet, (x, timesteps, context) = Vector(), _given(3)
    given = {"timesteps": timesteps, "context": context, "y": torch.arange(18.0).view(3, 6)}
    plain = unet(x, **given)
    unet.seen.clear()
    erasure = Erasure([Target(_concept(), FixedScale(-3))], concept_pass=concept_pass)
    with attach(unet, erasure):
        erasure.begin([0, 1, None], 0.0)
        erased = unet(x, **given)
    assert torch.equal(erased[2], plain[2])
    assert all(not torch.equal(erased[row], plain[row]) for row in (0, 1))
    expected = [given["y"][:2], given["y"]] if concept_pass == "separate" else [given["y"]]
    assert len(unet.seen) == len(expected)
    assert all(torch.equal(seen, y) for seen, y in zip(unet.seen, expected, strict=True))
    assert hooks_of(unet) == 0


@torch.no_grad()
def test_what_is_read_at_the_same_noise_depends_on_the_vector():
    unet, (x, timesteps, context) = Vector(), _given(2)
    read_attention(unet, [_concept()], Reading(False, 3), (x,), {
        "timesteps": timesteps, "context": context[:1].expand(2, -1, -1), "y": torch.tensor([[0.0] * 6, [1.0] * 6]),
    })  # fmt: skip
    (seen,) = unet.seen
    assert seen.shape == (2, 6)  # the rows differ in it, so both are read


@torch.no_grad()
def test_extra_channels_stay_with_their_rows():
    """Of an inpainting model: the unconditional row is as it was, and readings see the mask."""
    unet = _unet(in_channels=9)
    x, timesteps, context = _given(3, channels=9)
    plain = unet(x, timesteps, context=context)
    erasure = Erasure([Target(_concept(), FixedScale(-3))])
    with attach(unet, erasure):
        erasure.begin([0, 1, None], 0.0)
        erased = unet(x, timesteps, context=context)
    assert torch.equal(erased[2], plain[2])
    assert not torch.equal(erased[:2], plain[:2])

    def read(latents):
        (found,) = read_attention(unet, [_concept()], Reading(False, 3), (latents, timesteps, context))
        return found

    other_noise, other_mask = x.clone(), x.clone()
    other_noise[:, :4] += 1
    other_mask[:, 4:] += 1
    assert torch.equal(read(x), read(other_noise))
    assert not torch.equal(read(x), read(other_mask))
