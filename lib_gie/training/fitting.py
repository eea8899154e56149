"""Fits an adapter to labels (paper, section 3.3) and says whether it is better than one constant scale."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from tqdm import tqdm

from ..adapter import Adapter, AdapterInfo
from ..errors import OptionError
from .labels import Label


@dataclass(frozen=True)
class Recipe:
    """How an adapter is fitted. The defaults are the paper's: MSE, Adam, learning rate 0.001, 2000 epochs.

    ``early_stopping``: keep the epoch with the least validation error. ``share_validation``: of the prompts.
    ``quantile``: what a prompt's label is among its seeds' (the features of the first step hardly know the seed), or
    None to fit every image's own label.
    """

    epochs: int = 2000
    rate: float = 1e-3
    weight_decay: float = 0.0
    early_stopping: bool = True
    share_validation: float = 0.25
    quantile: float | None = None
    seed: int = 0


@dataclass
class Fit:
    """A fitted adapter and its errors (mean squared, in units of scale squared)."""

    adapter: Adapter
    train_error: float
    validation_error: float
    constant: float
    constant_error: float
    best_epoch: int
    history: list[tuple[float, float]] = field(default_factory=list)

    @property
    def is_better(self) -> bool:
        """Whether it beats, on the validation prompts, the constant that is best on the training prompts."""
        return self.validation_error < self.constant_error


def is_validation(prompt: str, share: float) -> bool:
    """Whether a prompt belongs to the validation part: fixed by its text, whatever other prompts there are."""
    number = int.from_bytes(hashlib.sha256(prompt.encode()).digest()[:8], "big")
    return number / 2**64 < share


def targets(labels: Sequence[Label], quantile: float | None) -> list[float]:
    """The scale that each label is fitted to: its own, or the quantile of its prompt's (0.9: nearly the strongest)."""
    if quantile is None:
        return [label.scale for label in labels]
    by_prompt: dict[str, list[float]] = {}
    for label in labels:
        by_prompt.setdefault(label.sample.prompt, []).append(-label.scale)
    chosen = {prompt: -float(torch.tensor(values).quantile(quantile)) for prompt, values in by_prompt.items()}
    return [chosen[label.sample.prompt] for label in labels]


def _rows(labels: Sequence[Label], scales: Sequence[float]) -> tuple[torch.Tensor, torch.Tensor]:
    """One row per image and concept token: inputs float32 [N, layers], targets float32 [N]."""
    inputs = torch.cat([label.means.T for label in labels])  # [N, layers]
    counts = torch.tensor([label.means.shape[1] for label in labels])  # [labels]
    return inputs, torch.tensor(scales).repeat_interleave(counts)  # [N, layers], [N]


def _split(labels: Sequence[Label], recipe: Recipe) -> tuple[list[int], list[int]]:
    held = [i for i, label in enumerate(labels) if is_validation(label.sample.prompt, recipe.share_validation)]
    rest = [i for i in range(len(labels)) if i not in set(held)]
    if not held or not rest:
        raise OptionError(
            f"{len({label.sample.prompt for label in labels})} prompts are too few to keep some for validation; give "
            f"at least a dozen different ones"
        )
    return rest, held


def fit(base: str, concepts: Sequence[str], labels: Sequence[Label], recipe: Recipe | None = None) -> Fit:
    """Fit an adapter for a model family and concepts. Raises OptionError where there are too few prompts."""
    recipe = recipe or Recipe()
    scales = targets(labels, recipe.quantile)
    parts = []
    for numbers in _split(labels, recipe):
        parts.append(_rows([labels[i] for i in numbers], [scales[i] for i in numbers]))
    (inputs, wanted), (held_inputs, held_wanted) = parts
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        info = AdapterInfo(base, inputs.shape[1], tuple(concepts), (min(scales), min(0.0, max(scales))))
        adapter = Adapter(info)
    adapter.set_normalisation(inputs)
    history, best, best_epoch = _descend(adapter, inputs, wanted, held_inputs, held_wanted, recipe)
    adapter.load_state_dict(best)
    constant = float(wanted.mean())
    return Fit(
        adapter=adapter.eval(),
        train_error=history[best_epoch][0],
        validation_error=history[best_epoch][1],
        constant=constant,
        constant_error=float((held_wanted - constant).square().mean()),
        best_epoch=best_epoch,
        history=history,
    )


def _descend(adapter, inputs, wanted, held_inputs, held_wanted, recipe: Recipe):
    """Full-batch gradient descent; returns errors per epoch, the chosen weights and their epoch."""
    optimizer = torch.optim.AdamW(adapter.parameters(), lr=recipe.rate, weight_decay=recipe.weight_decay)
    history: list[tuple[float, float]] = []
    best, best_epoch, least = copy.deepcopy(adapter.state_dict()), 0, float("inf")
    for epoch in tqdm(range(recipe.epochs), desc="adapter", mininterval=5, leave=False):
        loss = (adapter(inputs) - wanted).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            low, high = adapter.info.label_range
            held = (adapter(held_inputs).clamp(low, high) - held_wanted).square().mean()
        history.append((loss.item(), held.item()))
        if not recipe.early_stopping or held.item() <= least:
            best, best_epoch, least = copy.deepcopy(adapter.state_dict()), epoch, held.item()
    return history, best, best_epoch
