"""The ways to sample that are compared: this project's erasure, the model alone and other methods."""

from __future__ import annotations

from collections.abc import Callable

import torch

from lib_gie.core.concepts import Concept
from lib_gie.core.erasure import Erasure, Target
from lib_gie.core.scales.scale_rules import FixedScale, ScaleRule
from lib_gie.evaluation.methods import negated_values
from lib_gie.hosts.erased_sampling import ErasedSampling, RowsInOrder

from .authors import AuthorsScheme
from .sampler import CFG, SCALE, TOKENS, Sampler


def stock(sampler: Sampler) -> None:
    """Sample with the model alone."""
    sampler.sample(sampler.guided)


def growth_inhibitors(
    sampler: Sampler, count: int = 1, rule: ScaleRule | None = None, concept_pass: str = "fused"
) -> None:
    """Sample with this project's erasure of this many concepts."""
    rule, batch = rule or FixedScale(SCALE), sampler.setting.batch
    rows = RowsInOrder([*[None] * batch, *range(batch)])
    targets = [Target(sampler.encode(Concept(f"concept {number}")), rule) for number in range(count)]
    with ErasedSampling(sampler) as erased:
        erased.attach(Erasure(targets, concept_pass=concept_pass, ledger=erased.ledger))

        def predict(latents, timestep, number):
            erased.begin_step(rows, number / sampler.setting.steps)
            return sampler.guided(latents, timestep, number)

        sampler.sample(predict)


def authors(sampler: Sampler) -> None:
    """Sample by the authors' scheme: two trajectories, all maps."""
    concept = sampler.encode(Concept("concept 0"))
    scheme = AuthorsScheme(sampler.unet, concept.states, concept.span, SCALE)
    without, conditional = sampler.states.chunk(2)  # [B, L, D] each
    states = torch.cat([without, without, conditional, conditional])  # [4 B, L, D]

    def predict(latents, timestep, number):
        scheme.progress = number / sampler.setting.steps
        noise = sampler.guided(torch.cat([latents, latents]), timestep, number, states)  # [2 B, 4, h, w]
        scheme.end_step()
        return noise.chunk(2)[1]  # [B, 4, h, w]

    with scheme.attached():
        sampler.sample(predict)


def negpip(sampler: Sampler) -> None:
    """Sample with negative tokens: the concept's join the prompt, their values with the other sign."""
    concept, batch = sampler.encode(Concept("concept 0")), sampler.setting.batch
    added = concept.states[concept.span].expand(2 * batch, -1, -1)  # [2 B, n, D]
    states = torch.cat([sampler.states, added], 1)  # [2 B, L + n, D]

    def predict(latents, timestep, number):
        return sampler.guided(latents, timestep, number, states)

    with negated_values(sampler.unet, batch, TOKENS, -SCALE):
        sampler.sample(predict)


def sld(sampler: Sampler) -> None:
    """Sample by Safe Latent Diffusion (Schramowski et al., 2023): a third row per image, and guidance away from it."""
    concept = sampler.encode(Concept("concept 0")).states.expand(sampler.setting.batch, -1, -1)  # [B, L, D]
    states = torch.cat([sampler.states, concept])  # [3 B, L, D]

    def predict(latents, timestep, number):
        without, conditional, unsafe = sampler.noise(latents, timestep, states).chunk(3)  # [B, 4, h, w] each
        weight = (1000 * (conditional - unsafe)).abs().clamp(max=1) * (conditional - unsafe < 0.025)  # [B, 4, h, w]
        return without + CFG * (conditional - without - weight * (unsafe - without))

    sampler.sample(predict)


Variant = Callable[[Sampler], None]

VARIANTS: dict[str, Variant] = {
    "stock": stock,
    "fused 1": growth_inhibitors,
    "fused 3": lambda sampler: growth_inhibitors(sampler, 3),
    "fused 8": lambda sampler: growth_inhibitors(sampler, 8),
    "separate": lambda sampler: growth_inhibitors(sampler, concept_pass="separate"),
    "adapter": lambda sampler: growth_inhibitors(sampler, rule=sampler.adapter()),
    "calibrated": lambda sampler: growth_inhibitors(sampler, rule=sampler.calibration()),
    "authors": authors,
    "negpip": negpip,
    "sld": sld,
}
