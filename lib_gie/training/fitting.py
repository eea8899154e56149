"""The fit of an adapter to labels (paper, section 3.3), and its comparison with one constant scale."""

from __future__ import annotations

import copy
import hashlib
import json
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn
from tqdm import tqdm

from lib_gie.core.recorder import Reading
from lib_gie.core.scales.adapter import Adapter, AdapterInfo, filled
from lib_gie.core.scales.input_range import fit_range
from lib_gie.errors import ErasureError, OptionError
from lib_gie.options import LOWEST_SCALE

from .calibration.presence import readings_at
from .image_maker import ImageMaker
from .kept_readings import KeptReadings
from .labels import Label
from .presumption import Presumption

READING = Reading(per_head=True, noise=0)
"""The reading that adapters are trained on: every head's mean at the same noise. It tells apart prompts that an adapter
was not fitted on; the paper's 16 layer means at each image's own noise do not (docs/ADAPTERS.md has the figures)."""


@dataclass(frozen=True)
class Recipe:
    """How an adapter is fitted: squared error, Adam, learning rate 0.001, 2000 epochs as in the paper.

    The first options say which scale a prompt is fitted to. ``quantile``: the quantile of its seeds' labels, 1 for the
    strongest, 0.5 for the median. ``floor``: a prompt whose images show the concept gets at least this quantile of all
    the concept's labels, because a label from few images is uncertain. None sets no floor. ``names_count``: a prompt
    that names the concept gets the floor even if none of its few images shows it. ``margin``: a factor on labels,
    because the weakest scale that erases one image is too weak for about half of the others.

    The others are the fit's. ``predicted``: the MLP reads what the UNet predicts under the prompt beside the attention.
    ``balanced``: prompts with and without the concept have the same total weight.
    ``overshoot``: the weight of an error on the strong side of a label, 0 or more. ``one_sided``: a prediction above 0
    is no error where the label is 0, since it is clamped. ``input_noise``: noise on the inputs, drawn anew in every
    epoch, in units of their spread. Without it the MLP memorises a few hundred prompts; with much of it the MLP cannot
    tell apart a concept and what looks like it. ``batch``: the rows (prompts and concept tokens) of one step of Adam;
    None: all of them, as in the paper. ``early_stopping``: keep the epoch with the least validation error, and end
    where PATIENCE steps have found none with less. ``share_validation``: the share of prompts that are held out.

    ``steepness``: the factor by which the fitted MLP's answers are lifted, up to the weakest label of a prompt with the
    concept. Of a prompt unlike all that it was fitted to the MLP says something between 0 and the label, and half of a
    scale that erases mostly erases nothing.
    """

    epochs: int = 2000
    rate: float = 1e-3
    quantile: float = 1.0
    floor: float | None = 0.9
    names_count: bool = True
    margin: float = 1.15
    predicted: bool = True
    balanced: bool = True
    overshoot: float = 0.1
    one_sided: bool = True
    input_noise: float = 0.1
    batch: int | None = 1024
    early_stopping: bool = True
    share_validation: float = 0.25
    steepness: float = 1.5
    seed: int = 0


PAPER_RECIPE = Recipe(
    quantile=0.5, floor=None, names_count=False, margin=1.0, predicted=False, balanced=False, overshoot=1.0,
    one_sided=False, input_noise=0.0, batch=None, early_stopping=False, steepness=1.0,
)  # fmt: skip
"""The paper's recipe (section 3.3 and appendix), except that inputs are normalised and prompts have several seeds."""

PATIENCE = 400
"""Steps of Adam after which early stopping ends a fit that has become no better."""

PARTS = {
    "label": ("quantile", "floor", "names_count", "margin"),
    "inputs": ("predicted",),
    "loss": ("balanced", "overshoot", "one_sided"),
    "regularisation": ("input_noise", "batch", "early_stopping"),
    "steepness": ("steepness",),
}
"""What the two recipes differ in, part by part."""


def paper_recipe_with(parts: Iterable[str]) -> Recipe:
    """Return the paper's recipe with some PARTS of this project's."""
    own = Recipe()
    return replace(PAPER_RECIPE, **{name: getattr(own, name) for part in parts for name in PARTS[part]})


@dataclass(frozen=True)
class Example:
    """A prompt, the scale it is fitted to, and the adapter's inputs, float32 [inputs, n]."""

    prompt: str
    scale: float
    inputs: torch.Tensor


@dataclass
class Fit:
    """A fitted adapter and its errors (squared, in units of scale squared, weighed as the recipe says).

    The errors are those of the MLP's answers before they are lifted, which is what is fitted.

    ``constant``: the one scale for all prompts with the least error on the training part. ``constant_error``: the error
    of that scale on the validation part.
    """

    adapter: Adapter
    train_error: float
    validation_error: float
    constant: float
    constant_error: float
    best_epoch: int
    history: list[tuple[float, float]] = field(default_factory=list)

    @property
    def is_better(self) -> bool:
        """Tell whether it beats, on the validation prompts, the constant that is best on the training prompts."""
        return self.validation_error < self.constant_error


def is_validation(prompt: str, share: float) -> bool:
    """Tell whether a prompt belongs to the validation part. Its text alone decides, not the other prompts."""
    number = int.from_bytes(hashlib.sha256(prompt.encode()).digest()[:8], "big")
    return number / 2**64 < share


def targets(labels: Sequence[Label], recipe: Recipe, presumption: Presumption | None = None) -> dict[str, float]:
    """Return the scale that each prompt of one concept is fitted to, from its labels.

    ``presumption``: a calibration's. No prompt with the concept is fitted to a weaker scale than the presumed one. That
    one needs no margin: it was found for the concept and not for one image. Prompts whose own images resist it get the
    margin, and the floor, which is for all prompts, does not.
    """
    by_prompt: dict[str, list[float]] = {}
    for label in labels:
        by_prompt.setdefault(label.sample.prompt, []).append(-label.scale)
    own = {prompt: _quantile(strengths, recipe.quantile) for prompt, strengths in by_prompt.items()}
    shown = [-label.scale for label in labels if label.scale < 0 and (label.images or presumption is None)]
    floor = _quantile(shown, recipe.floor) if recipe.floor is not None and shown else 0.0
    naming = {label.sample.prompt for label in labels if recipe.names_count and label.sample.kind == "explicit"}
    presumed = 0.0
    if presumption is not None:
        presumed = -presumption.scale
        naming |= {label.sample.prompt for label in labels if presumption.is_sure(label.sample)}

    def scale(strength: float) -> float:
        if presumption is None:
            wanted = recipe.margin * max(strength, floor)
        else:
            wanted = max(recipe.margin * strength if strength > presumed else presumed, floor)
        return max(round(-wanted, 4), LOWEST_SCALE)

    return {prompt: scale(strength) if strength > 0 or prompt in naming else 0.0 for prompt, strength in own.items()}


def _quantile(values: Sequence[float], share: float) -> float:
    """Return the least value that this share of the values does not exceed; it is always one of them."""
    return float(torch.tensor(values, dtype=torch.float64).quantile(share, interpolation="higher"))


def half_of(size: tuple[int, int]) -> tuple[int, int]:
    """Return half of a height and width in latents; of 16 and more a multiple of 8, which every UNet can halve."""
    height, width = (side // 2 if side < 16 else side // 16 * 8 for side in size)
    return height, width


class PromptInputs:
    """The inputs that prompts give an adapter for some concepts on a model; each prompt is read once.

    ``at_half``: whether noise of half the image's height and width is read, which takes a quarter of the work.
    ``predicted``: whether what the UNet predicts is read beside the attention, see ``Recipe``. ``folder``: keeps them
    between runs; None keeps nothing.
    """

    def __init__(
        self,
        maker: ImageMaker,
        concepts: Sequence[str],
        at_half: bool = False,
        predicted: bool = True,
        folder: Path | None = None,
    ):
        self.maker, self.concepts = maker, tuple(concepts)
        size = half_of(maker.latent_size) if at_half else maker.latent_size
        self.reading = replace(READING, size=size)
        self.predicted = readings_at(size) if predicted else ()
        self._read: dict[str, dict[str, torch.Tensor]] = {concept: {} for concept in concepts}
        self._readings = self.reading, *self.predicted
        identity = json.dumps([maker.base, maker.description, maker.conditions, str(self._readings), *self.concepts])
        self._kept = KeptReadings(len(self.concepts), identity, folder)

    def of(self, concept: str, prompts: Iterable[str]) -> dict[str, torch.Tensor]:
        """Return the inputs of prompts for one of the concepts: by prompt, float32 [inputs, n].

        Raises ErasureError where they are not finite.
        """
        known = self._read[concept]
        missing = sorted(set(prompts) - known.keys())
        if missing:
            found = self._kept.read(missing, self._read_now)  # for each concept [prompts, inputs, n]
            if not all(torch.isfinite(inputs).all() for inputs in found):
                raise ErasureError(
                    "the model gives numbers that are not finite for a prompt, so no adapter can be fitted on it; run "
                    "it in full precision"
                )
            for name, inputs in zip(self.concepts, found, strict=True):
                self._read[name] |= zip(missing, inputs, strict=True)
        return known

    def _read_now(self, prompts: Sequence[str]) -> list[torch.Tensor]:
        return self.maker.read(prompts, self.concepts, self._readings)

    def examples(
        self, concept: str, labels: Sequence[Label], recipe: Recipe, presumption: Presumption | None = None
    ) -> list[Example]:
        """Return one example per prompt of one concept."""
        wanted = targets(labels, recipe, presumption)
        inputs = self.of(concept, wanted)
        return [Example(prompt, scale, inputs[prompt]) for prompt, scale in wanted.items()]


def _rows(examples: Sequence[Example]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return one row per prompt and concept token: inputs float32 [N, inputs], targets float32 [N]."""
    inputs = torch.cat([example.inputs.T for example in examples])  # [N, inputs]
    counts = torch.tensor([example.inputs.shape[1] for example in examples])  # [examples]
    scales = torch.tensor([example.scale for example in examples])  # [examples]
    return inputs, scales.repeat_interleave(counts)  # [N, inputs], [N]


def check_enough(prompts: Collection[str], share: float = Recipe.share_validation) -> None:
    """Raise OptionError where all different prompts, or none of them, would be held out for validation."""
    held = sum(is_validation(prompt, share) for prompt in prompts)
    if held in (0, len(prompts)):
        raise OptionError(
            f"{len(prompts)} prompts are too few to keep some for validation; give at least a dozen different ones"
        )


def _split(examples: Sequence[Example], share: float) -> tuple[list[Example], list[Example]]:
    check_enough([example.prompt for example in examples], share)
    held = [example for example in examples if is_validation(example.prompt, share)]
    return [example for example in examples if not is_validation(example.prompt, share)], held


def fit(
    base: str,
    concepts: Sequence[str],
    examples: Sequence[Example],
    recipe: Recipe | None = None,
    reading: Reading = READING,
    predicted: tuple[Reading, ...] = (),
    conditions: Mapping[str, float] | None = None,
) -> Fit:
    """Fit an adapter for a model family and concepts. Raises OptionError where there are too few prompts.

    ``predicted``, ``conditions``: see AdapterInfo.
    """
    recipe = recipe or Recipe()
    (inputs, wanted), (held_inputs, held_wanted) = map(_rows, _split(examples, recipe.share_validation))
    scales = [example.scale for example in examples]
    low, full = min(scales), max((scale for scale in scales if scale < 0), default=0.0)
    lift = (recipe.steepness, full) if recipe.steepness > 1 else (1.0, 0.0)
    info = AdapterInfo(
        base, inputs.shape[1], tuple(concepts), (low, 0.0), reading,
        conditions=dict(conditions or {}), predicted=predicted, lift=lift,
    )  # fmt: skip
    adapter = _new_adapter(info, recipe.seed)
    adapter.set_normalisation(inputs)
    adapter.range = fit_range(inputs, held_inputs)
    history, best, best_epoch = _descend(adapter, inputs, wanted, held_inputs, held_wanted, recipe)
    constants = [low * step / 100 for step in range(101)]
    constant = min(constants, key=lambda value: error(torch.full_like(wanted, value), wanted, low, recipe))
    return Fit(
        adapter=filled(adapter, best),
        train_error=history[best_epoch][0],
        validation_error=history[best_epoch][1],
        constant=constant,
        constant_error=float(error(torch.full_like(held_wanted, constant), held_wanted, low, recipe)),
        best_epoch=best_epoch,
        history=history,
    )


def _new_adapter(info: AdapterInfo, seed: int) -> Adapter:
    """Return an adapter with weights from this seed, also while a model is loaded in another thread: see ``filled``."""
    generator = torch.Generator().manual_seed(seed)
    adapter = Adapter(info)
    tensors = {"input_mean": torch.zeros(info.inputs), "input_std": torch.ones(info.inputs)}
    for name, module in adapter.named_modules():
        if isinstance(module, nn.Linear):
            bound = module.in_features**-0.5  # as nn.Linear draws them itself
            for part, value in module.named_parameters():
                tensors[f"{name}.{part}"] = torch.empty(value.shape).uniform_(-bound, bound, generator=generator)
    return filled(adapter, tensors).requires_grad_(True)


def error(predicted: torch.Tensor, wanted: torch.Tensor, low: float, recipe: Recipe) -> torch.Tensor:
    """Return the squared error of scales, float32 [N] each, weighed by the recipe. ``low``: the strongest label."""
    weights = _weights(wanted) if recipe.balanced else torch.ones_like(wanted)  # [N]
    return _weighed(predicted, wanted, weights, low, recipe)


def _weighed(
    predicted: torch.Tensor, wanted: torch.Tensor, weights: torch.Tensor, low: float, recipe: Recipe
) -> torch.Tensor:
    """Return ``error`` with given weights, float32 [N]: in a batch they are those of all prompts."""
    difference = predicted - wanted  # [N]
    squared = difference.square()  # [N]
    if recipe.one_sided:  # no error where clamping gives the label
        squared = squared * ~((wanted == 0) & (difference > 0)) * ~((wanted <= low) & (difference < 0))  # [N]
    squared = torch.where((wanted < 0) & (difference < 0), recipe.overshoot * squared, squared)  # [N]
    return (weights * squared).sum() / weights.sum()


def _weights(wanted: torch.Tensor) -> torch.Tensor:
    """Return weights that balance labels at 0 and below: 1 at 0, their ratio below: float32 [N]."""
    shown, absent = int((wanted < 0).sum()), int((wanted == 0).sum())
    return torch.where(wanted < 0, absent / shown if shown and absent else 1.0, 1.0)  # [N]


def _descend(
    adapter: Adapter,
    inputs: torch.Tensor,
    wanted: torch.Tensor,
    held_inputs: torch.Tensor,
    held_wanted: torch.Tensor,
    recipe: Recipe,
) -> tuple[list[tuple[float, float]], dict[str, Any], int]:
    """Descend the gradient. Return errors per epoch, the chosen weights and their epoch."""
    optimizer = torch.optim.Adam(adapter.parameters(), lr=recipe.rate)
    weights = _weights(wanted) if recipe.balanced else torch.ones_like(wanted)  # [N]
    size = recipe.batch or len(wanted)
    patience = math.ceil(PATIENCE / math.ceil(len(wanted) / size))  # in epochs
    low, high = adapter.info.label_range
    generator = torch.Generator().manual_seed(recipe.seed)
    history: list[tuple[float, float]] = []
    best, best_epoch, least = copy.deepcopy(adapter.state_dict()), 0, float("inf")
    for epoch in tqdm(
        range(recipe.epochs), desc="fitting, which may end early", unit=" epochs", mininterval=5, leave=False
    ):
        order = torch.randperm(len(wanted), generator=generator) if recipe.batch else torch.arange(len(wanted))  # [N]
        losses = []
        for rows in order.split(size):
            noise = torch.randn(inputs[rows].shape, generator=generator)  # [b, inputs]
            seen = inputs[rows] + recipe.input_noise * adapter.input_std * noise  # [b, inputs]
            loss = _weighed(adapter(seen), wanted[rows], weights[rows], low, recipe)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        with torch.no_grad():
            held = error(adapter(held_inputs).clamp(low, high), held_wanted, low, recipe)
        history.append((sum(losses) / len(losses), held.item()))
        if not recipe.early_stopping or held.item() < least:
            best, best_epoch, least = copy.deepcopy(adapter.state_dict()), epoch, held.item()
        if recipe.early_stopping and epoch - best_epoch >= patience:
            break
    return history, best, best_epoch


def validation_error(adapter: Adapter, examples: Sequence[Example], recipe: Recipe) -> float:
    """Return the squared error on the validation part of examples, weighed as the recipe says."""
    inputs, wanted = _rows(_split(examples, recipe.share_validation)[1])  # [N, inputs], [N]
    low, high = adapter.info.label_range
    with torch.no_grad():
        return float(error(adapter(inputs).clamp(low, high), wanted, low, recipe))


def fit_labels(
    inputs: PromptInputs,
    labels: Mapping[str, Sequence[Label]],
    recipe: Recipe | None = None,
    presumptions: Mapping[str, Presumption | None] | None = None,
    with_narrow: bool = True,
) -> Fit:
    """Read the prompts and fit one adapter for all concepts. ``labels``, ``presumptions``: by concept.

    ``with_narrow``: whether one that reads what is predicted gets a narrow adapter, fitted to the same labels: see
    ``Adapter``.
    """
    recipe, presumed, examples = recipe or Recipe(), presumptions or {}, []
    for concept, part in labels.items():
        examples += inputs.examples(concept, part, recipe, presumed.get(concept))
    maker = inputs.maker
    known = maker.base, list(labels)
    result = fit(*known, examples, recipe, inputs.reading, inputs.predicted, maker.conditions)
    if inputs.predicted and with_narrow:
        count = result.adapter.info.attention_inputs
        attention = [replace(example, inputs=example.inputs[:count]) for example in examples]
        result.adapter.narrow = fit(*known, attention, recipe, inputs.reading, (), maker.conditions).adapter
    return result


def predictions(
    inputs: PromptInputs,
    result: Fit,
    concept: str,
    labels: Sequence[Label],
    recipe: Recipe,
    presumption: Presumption | None = None,
) -> list[tuple[float, float, bool]]:
    """Return labelled scale, the MLP's scale (mean over tokens) and whether kept for validation, for each prompt."""
    examples = sorted(inputs.examples(concept, labels, recipe, presumption), key=lambda example: example.prompt)
    rows = torch.stack([example.inputs for example in examples]).cpu()  # [prompts, inputs, n]
    scales = result.adapter.own_scales(rows).mean(1).tolist()
    share = recipe.share_validation
    return [
        (example.scale, scale, is_validation(example.prompt, share))
        for example, scale in zip(examples, scales, strict=True)
    ]
