"""The time and memory of erasure, side by side with the model alone and with other ways.

One generation without its text encoder and VAE is measured: ``steps`` denoising steps with guidance. Steps are compared
pair by pair with the model's own of the same round. The first step also holds the work that is done once per generation
(K*, U, the adapter's reading). So it is kept apart, and its excess over the model's first step is told in steps.
"""

from __future__ import annotations

import ctypes
import gc
import multiprocessing
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from diffusers import DDIMScheduler
from tqdm import tqdm

from lib_gie.core.concepts import Concept
from lib_gie.core.encoding import EncodedConcept
from lib_gie.core.erasure import Erasure, Target
from lib_gie.core.layers import find_cross_attention
from lib_gie.core.scales.adapter import Adapter, AdapterInfo
from lib_gie.core.scales.scale_rules import FixedScale, ScaleRule
from lib_gie.errors import GieError
from lib_gie.evaluation.methods import negated_values
from lib_gie.hosts.erased_sampling import ErasedSampling, RowsInOrder
from lib_gie.training.fitting import READING

from .authors import AuthorsScheme
from .unets import SIZES, build_bench_unet

CFG = 7.5
SCALE = -1.0
TOKENS = 2  # in a concept
PEAK_RUNS = 3
_LENGTH = 77

Predict = Callable[[torch.Tensor, torch.Tensor, int], torch.Tensor]
"""Latents [B, 4, h, w], timestep, number of the step -> noise [B, 4, h, w]."""


@dataclass(frozen=True)
class Setting:
    """One measurement's UNet (see ``unets.SIZES``), image side in pixels, images at once, and steps (2 or more)."""

    size: str
    pixels: int
    batch: int = 1
    steps: int = 4


class Sampler:
    """Denoises random latents under random text states: a ``SamplingHost`` without prompts."""

    def __init__(self, setting: Setting, device: torch.device):
        self.device, self.family = device, SIZES[setting.size].family
        self.unet = build_bench_unet(SIZES[setting.size], device)
        self.dtype, self._random = self.unet.dtype, torch.Generator().manual_seed(0)
        self._scheduler = DDIMScheduler()
        self.seconds: list[float] = []
        self.use(setting)

    def use(self, setting: Setting) -> None:
        """Go on with another setting of the same size."""
        batch, side, width = setting.batch, setting.pixels // 8, self.unet.config.cross_attention_dim
        self.setting = setting
        self.latents = self._draw(batch, 4, side, side)  # [B, 4, h, w]
        self.states = self._draw(2 * batch, _LENGTH, width)  # [2 B, L, D], unconditional rows first

    def _draw(self, *shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=self._random).to(self.device, self.dtype)

    def encode(self, concept: Concept) -> EncodedConcept:
        """Give a concept random text states [L, D]."""
        return EncodedConcept(concept, self._draw(*self.states.shape[1:]), ["a"] * TOKENS)

    def undisturbed(self) -> AbstractContextManager[None]:
        """Make a context for UNet calls of the core's own: calls of these UNets leave nothing behind."""
        return nullcontext()

    def adapter(self) -> Adapter:
        """Make an adapter that fits the UNet and gives a scale below 0."""
        heads = [layer.heads for layer in find_cross_attention(self.unet)]
        adapter = Adapter(AdapterInfo(self.family, sum(heads), ("concept",), (2 * SCALE, 0.0), READING))
        torch.nn.init.constant_(adapter.out.bias, 10 * SCALE)
        return adapter.requires_grad_(False)

    def noise(self, latents: torch.Tensor, timestep: torch.Tensor, states: torch.Tensor) -> torch.Tensor:
        """Call the UNet once: states [R, L, D] -> [R, 4, h, w]."""
        rows = len(states)
        more = {}
        if self.family == "sdxl":
            pooled = torch.zeros(rows, 1280, device=self.device, dtype=self.dtype)  # [R, 1280]
            sizes = torch.full((rows, 6), self.setting.pixels, device=self.device, dtype=self.dtype)  # [R, 6]
            more["added_cond_kwargs"] = {"text_embeds": pooled, "time_ids": sizes}
        repeated = latents.repeat(rows // len(latents), 1, 1, 1)  # [R, 4, h, w]
        return self.unet(repeated, timestep, encoder_hidden_states=states, **more).sample

    def guided(
        self, latents: torch.Tensor, timestep: torch.Tensor, number: int, states: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Return the guided noise under ``states`` [2 B, L, D] (by default the sampler's): [B, 4, h, w]."""
        states = self.states if states is None else states  # [2 B, L, D]
        without, conditional = self.noise(latents, timestep, states).chunk(2)  # [B, 4, h, w] each
        return without + CFG * (conditional - without)

    @torch.no_grad()
    def sample(self, predict: Predict) -> torch.Tensor:
        """Return the sampled latents [B, 4, h, w], and keep how long each step took in ``seconds``."""
        self._scheduler.set_timesteps(self.setting.steps)
        latents, self.seconds = self.latents, []
        for number, timestep in enumerate(self._scheduler.timesteps):
            started = self._now()
            latents = self._scheduler.step(predict(latents, timestep, number), timestep, latents).prev_sample
            self.seconds.append(self._now() - started)
        return latents

    def _now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()


# -- variants ------------------------------------------------


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
    "authors": authors,
    "negpip": negpip,
    "sld": sld,
}


# -- measuring ------------------------------------------------


Times = dict[str, list[list[float]]]
"""The seconds of every step, by variant and round."""


def alternate(sampler: Sampler, variants: dict[str, Variant], rounds: int, label: str) -> Times:
    """Run every variant in every round, A B C A B C ..., after one short generation each that does not count."""
    setting = sampler.setting
    times: Times = {name: [] for name in variants}
    sampler.use(replace(setting, steps=2))
    for variant in variants.values():
        variant(sampler)
    sampler.use(setting)
    with tqdm(total=rounds * len(variants), desc=label, mininterval=5) as bar:
        for _ in range(rounds):
            for name, variant in variants.items():
                variant(sampler)
                times[name].append(sampler.seconds)
                bar.update()
    return times


@dataclass(frozen=True)
class Ratio:
    """A variant's time per step over the model's own: median, least and greatest of the pairs.

    ``once``: the excess of its first step, in steps of the model alone (median over the rounds).
    """

    median: float
    least: float
    greatest: float
    once: float

    def of_generation(self, steps: int) -> float:
        """Return the time of a generation of this many steps over the model's own."""
        return self.median + self.once / steps


def ratios(times: Times, base: str = "stock") -> dict[str, Ratio]:
    """Compare each step of each variant with the same step of the model alone in the same round."""
    found = {}
    for name, own in times.items():
        rounds = list(zip(own, times[base], strict=True))
        pairs = [a / b for mine, bare in rounds for a, b in zip(mine[1:], bare[1:], strict=True)]
        middle = statistics.median(pairs)
        once = statistics.median(mine[0] / statistics.median(bare[1:]) for mine, bare in rounds)
        alone = statistics.median(bare[0] / statistics.median(bare[1:]) for _, bare in rounds)
        found[name] = Ratio(middle, min(pairs), max(pairs), once - alone - (middle - 1))
    return found


def _peak_on_linux() -> int | None:
    """Return the most memory, in bytes, that the process had since the figure was reset, None where it is not told."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")), None)


class MeasuringError(GieError):
    """A measuring process ended early."""


def _measure_peak(setting: Setting, name: str, device: str, results) -> None:
    """Measure in a separate process. The result is in bytes, None where the system does not tell."""
    sampler = Sampler(setting, torch.device(device))
    if sampler.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    elif sys.platform == "linux":
        gc.collect()
        getattr(ctypes.CDLL(None), "malloc_trim", int)(0)  # what building the model has freed would hide a step
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    VARIANTS[name](sampler)
    results.put(torch.cuda.max_memory_allocated() if sampler.device.type == "cuda" else _peak_on_linux())


def peak_memory(setting: Setting, name: str, device: torch.device) -> int | None:
    """Return the most memory during one generation, in bytes, model included, None where the system does not tell.

    Raises MeasuringError where the process that measures ends early.
    """
    context = multiprocessing.get_context("spawn")
    results = context.SimpleQueue()
    process = context.Process(target=_measure_peak, args=(setting, name, str(device), results))
    process.start()
    process.join()
    if process.exitcode != 0 or results.empty():
        raise MeasuringError(
            f"the process that measured the memory of {name!r} ended with {process.exitcode} (-9: the system had too "
            f"little memory); use --no-memory, fewer --pixels or a smaller --batch"
        )
    return results.get()


def peaks(setting: Setting, names: Sequence[str], device: torch.device) -> dict[str, list[int]]:
    """Return every variant's peaks of two steps in PEAK_RUNS processes, A B C A B C ..., none where unknown."""
    found: dict[str, list[int]] = {name: [] for name in names}
    for name in tqdm([*names] * PEAK_RUNS, desc="memory"):
        peak = peak_memory(replace(setting, steps=2), name, device)
        found[name] += [] if peak is None else [peak]
    return found
