"""Adapters of the authors' code."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import torch

from lib_gie.checks import quoted
from lib_gie.core.scales.files import read_file
from lib_gie.errors import AdapterError

from .files import check_tensors
from .info import AdapterInfo
from .model import Adapter, filled

_LAYERS = ("fc1", "fc2", "fc3")


def convert_authors(path: Path | str, base: str, concepts: Sequence[str], label_range: tuple[float, float]) -> Adapter:
    """Return an adapter from the state dict (.pth) of the authors' three-layer MLP. Its inputs are not normalised.

    The file is read with ``weights_only``, so no code in it is run. It does not say base model, concepts and label
    range, so the caller does. Raises AdapterError where it is no such state dict.
    """
    path = Path(path)
    data = read_file(path)
    try:
        state = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for files that are no plain state dict
        raise AdapterError(
            f"{path.name} cannot be read as plain weights ({type(error).__name__}); give the state dict that the "
            f"authors' code saves"
        ) from error
    expected = [f"{layer}.{part}" for layer in _LAYERS for part in ("weight", "bias")]
    if not isinstance(state, dict) or sorted(state) != sorted(expected):
        found = quoted(", ".join(map(str, state))) if isinstance(state, dict) else type(state).__name__
        raise AdapterError(f"{path.name} holds {found}; expected the state dict {', '.join(expected)}")
    if not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise AdapterError(
            f"{path.name} holds other things than tensors; expected the state dict that the authors' code saves"
        )
    if state["fc1.weight"].ndim != 2:
        raise AdapterError(f"{path.name}: fc1.weight has {state['fc1.weight'].ndim} dimensions, expected 2")
    adapter = Adapter(
        AdapterInfo(
            base=base,
            inputs=state["fc1.weight"].shape[1],
            concepts=tuple(concepts),
            label_range=label_range,
            training={"source": "converted from the authors' state dict"},
        )
    )
    names = dict(zip(_LAYERS, ("hidden.0", "hidden.1", "out"), strict=True))
    tensors = {f"{names[key.split('.')[0]]}.{key.split('.')[1]}": value.float() for key, value in state.items()}
    tensors |= {"input_mean": torch.zeros(adapter.info.inputs), "input_std": torch.ones(adapter.info.inputs)}
    check_tensors(tensors, adapter.state_dict(), path.name)
    return filled(adapter, tensors)
