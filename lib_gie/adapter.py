"""The adapter: a small MLP that reads w off the first step's attention (paper, section 3.3), and its file format."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import os
import struct
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from . import __version__
from .attention import UNKNOWN
from .errors import AdapterError
from .statistics import PAPER, Reading

FORMAT = "1"
HIDDEN = (64, 32)
MAX_FILE_BYTES = 4 * 2**20
"""An adapter has a few thousand parameters; a larger file is something else."""

MAX_INPUTS = 4096


@dataclass(frozen=True)
class AdapterInfo:
    """What a file says about its adapter.

    ``base``: model family it was trained on ("sd1", "sd2", "sdxl", "gie-demo"); ``inputs``: of the MLP, as many as
    ``reading`` reads from that family's UNet; ``concepts``: the concepts it was trained for; ``label_range``: (least,
    greatest) scale among its labels, both <= 0; ``training``, ``validation``: figures, free-form.
    """

    base: str
    inputs: int
    concepts: tuple[str, ...]
    label_range: tuple[float, float]
    reading: Reading = PAPER
    training: dict = field(default_factory=dict)
    validation: dict = field(default_factory=dict)
    created_by: str = f"lib_gie {__version__}"

    def __post_init__(self):
        low, high = self.label_range
        if not (math.isfinite(low) and math.isfinite(high) and low <= high <= 0):
            raise AdapterError(
                f"the label range is {low} to {high}; it must be two finite scales, the smaller first, none above 0"
            )
        if not 1 <= self.inputs <= MAX_INPUTS:
            raise AdapterError(f"the adapter has {self.inputs} inputs; expected 1 to {MAX_INPUTS}")
        if not self.base:
            raise AdapterError("the adapter does not say which model family it was trained on (base)")
        if not self.concepts:
            raise AdapterError("the adapter does not say which concepts it was trained for")


class Adapter(nn.Module):
    """MLP n-64-32-1 over normalised attention means; one scale per image and concept token."""

    def __init__(self, info: AdapterInfo):
        super().__init__()
        self.info = info
        self.register_buffer("input_mean", torch.zeros(info.inputs))
        self.register_buffer("input_std", torch.ones(info.inputs))
        widths = (info.inputs, *HIDDEN)
        self.hidden = nn.ModuleList(nn.Linear(a, b) for a, b in itertools.pairwise(widths))
        self.out = nn.Linear(HIDDEN[-1], 1)

    @property
    def reading(self) -> Reading:
        """What its inputs are."""
        return self.info.reading

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Unclamped scales: float32 [..., inputs] -> [...]."""
        x = (inputs - self.input_mean) / self.input_std  # [..., inputs]
        # not layer(x): the WebUI's LoRA support replaces nn.Linear.forward for all modules of the process
        for layer in self.hidden:
            x = torch.relu(nn.functional.linear(x, layer.weight, layer.bias))  # [..., width]
        return nn.functional.linear(x, self.out.weight, self.out.bias)[..., 0]  # [...]

    @torch.no_grad()
    def scales(self, inputs: torch.Tensor | None, rows: int, tokens: int) -> torch.Tensor:
        """w within the label range, never above 0: float32 [rows, inputs, tokens] -> [rows, tokens]."""
        if inputs is None:
            raise AdapterError("the adapter needs the attention at t = T and got none")
        low, high = self.info.label_range
        with torch.autocast(inputs.device.type, enabled=False):
            return self(inputs.float().transpose(1, 2)).clamp(low, min(high, 0.0))  # [rows, tokens]

    def check_model(self, family: str, heads: Sequence[int]) -> None:
        """Raise AdapterError for a model of another family, or one that gives another number of inputs."""
        found = self.reading.count(heads)
        if family not in (self.info.base, UNKNOWN):
            raise AdapterError(
                f"the adapter for {', '.join(self.info.concepts)} was trained on {self.info.base}, and this model is "
                f"{family}; choose an adapter for {family}, or a fixed scale"
            )
        if found != self.info.inputs:
            raise AdapterError(
                f"the adapter for {', '.join(self.info.concepts)} was trained on {self.info.base} with "
                f"{self.info.inputs} inputs, and this model gives {found} ({len(heads)} cross-attention layers); "
                f"choose an adapter for this model's family, or a fixed scale"
            )

    @property
    def digest(self) -> str:
        """The same for the same weights, whatever the file's metadata says: 12 hex digits of a SHA-256."""
        digest = hashlib.sha256(repr((self.info.label_range, self.info.reading)).encode())
        for _, value in sorted(self.state_dict().items()):
            digest.update(value.detach().float().cpu().numpy().tobytes())
        return digest.hexdigest()[:12]

    def set_normalisation(self, inputs: torch.Tensor) -> None:
        """Take mean and spread of the training inputs, float32 [samples, inputs]; a constant input gets spread 1."""
        self.input_mean.copy_(inputs.mean(0))
        spread = inputs.std(0, correction=0)  # [inputs]
        self.input_std.copy_(torch.where(spread > 1e-8, spread, torch.ones_like(spread)))


# -- files ------------------------------------------------

_TEXT_KEYS = ("base", "created_by")
_JSON_KEYS = ("inputs", "reading", "concepts", "label_range", "training", "validation")


def save_adapter(adapter: Adapter, path: Path) -> None:
    """Write an adapter as safetensors with its metadata."""
    fields = asdict(adapter.info)
    metadata = {"gie_format": FORMAT, **{key: fields[key] for key in _TEXT_KEYS}}
    metadata |= {key: json.dumps(fields[key]) for key in _JSON_KEYS}
    tensors = {key: value.detach().float().contiguous() for key, value in adapter.state_dict().items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.part")  # nobody is to read half a file
    try:
        save_file(tensors, unfinished, metadata=metadata)
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


def add_validation(path: Path, **figures: Any) -> None:
    """Add figures to what an adapter's file says of its validation; the weights stay as they are."""
    adapter = load_adapter(path)
    adapter.info = replace(adapter.info, validation={**adapter.info.validation, **figures})
    save_adapter(adapter, path)


def _refuse_other_files(path: Path) -> None:
    if not path.is_file():
        raise AdapterError(f"there is no adapter file {path.name}; choose one of those listed, or a fixed scale")
    size = path.stat().st_size
    if size > MAX_FILE_BYTES:
        raise AdapterError(
            f"{path.name} has {size:,} bytes; an adapter has at most {MAX_FILE_BYTES:,}. This is another kind of file"
        )
    with path.open("rb") as file:
        start = file.read(9)
    if len(start) == 9 and start[8:] == b"{" and struct.unpack("<Q", start[:8])[0] <= size:
        return  # a safetensors file; its first bytes are a length, which can look like those of a pickle
    if start[:2] == b"PK" or start[:1] == b"\x80":
        raise AdapterError(
            f"{path.name} is a pickle, which can run any code when it is opened. Turn it into a safetensors file "
            f"with: python -m lib_gie convert {path.name}"
        )
    raise AdapterError(f"{path.name} is no safetensors file, or a broken one; get it again")


def _read(path: Path, weights: bool = True) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            metadata = file.metadata() or {}
            return {key: file.get_tensor(key) for key in file.keys()} if weights else {}, metadata
    except SafetensorError as error:
        raise AdapterError(f"{path.name} is a broken safetensors file ({error}); get it again") from error


def _reading(values: dict) -> Reading:
    per_head, noise = values["per_head"], values["noise"]
    if not isinstance(per_head, bool) or not (noise is None or (isinstance(noise, int) and 0 <= noise < 2**63)):
        raise ValueError(f"reading is {values}")
    return Reading(per_head, noise)


def _info(metadata: dict[str, str], name: str) -> AdapterInfo:
    if "gie_format" not in metadata:
        raise AdapterError(f"{name} has no growth-inhibitor metadata; it is no adapter, or one of another tool")
    if metadata["gie_format"] != FORMAT:
        raise AdapterError(
            f"{name} has format {metadata['gie_format']!r}, this version reads {FORMAT!r}; update the extension"
        )
    missing = [key for key in (*_TEXT_KEYS, *_JSON_KEYS) if key not in metadata]
    if missing:
        raise AdapterError(f"{name} lacks the metadata {', '.join(missing)}; it cannot be known what it is for")
    try:
        values = {key: json.loads(metadata[key]) for key in _JSON_KEYS}
        return AdapterInfo(
            base=metadata["base"],
            inputs=int(values["inputs"]),
            concepts=tuple(map(str, values["concepts"])),
            label_range=tuple(map(float, values["label_range"])),
            reading=_reading(values["reading"]),
            training=dict(values["training"]),
            validation=dict(values["validation"]),
            created_by=metadata["created_by"],
        )
    except AdapterError as error:
        raise AdapterError(f"{name}: {error}") from error
    except (ValueError, TypeError, KeyError) as error:
        raise AdapterError(f"{name} has metadata that cannot be read ({error})") from error


def _check_tensors(tensors: dict[str, torch.Tensor], expected: dict[str, torch.Tensor], name: str) -> None:
    if tensors.keys() != expected.keys():
        raise AdapterError(
            f"{name} holds the tensors {', '.join(sorted(tensors)) or 'none'}; expected {', '.join(sorted(expected))}"
        )
    for key, value in tensors.items():
        if value.shape != expected[key].shape:
            raise AdapterError(
                f"{name}: {key} has shape {list(value.shape)}, expected {list(expected[key].shape)} for its number "
                f"of inputs"
            )
        if not value.dtype.is_floating_point or not torch.isfinite(value).all():
            raise AdapterError(f"{name}: {key} holds numbers that are not finite; the file is damaged")
    if (tensors["input_std"] <= 0).any():
        raise AdapterError(f"{name}: input_std must be positive; the file is damaged")


def filled(adapter: Adapter, tensors: dict[str, torch.Tensor]) -> Adapter:
    """The adapter with these tensors, put in place one by one.

    While the WebUI loads a model in another thread, it has every nn.Linear created without storage and replaces
    load_state_dict, for the whole process: what went through either would be lost.
    """
    for key, value in tensors.items():
        parent, _, name = key.rpartition(".")
        module = adapter.get_submodule(parent)
        if name in module._buffers:
            module._buffers[name] = value.float().clone()
        else:
            module._parameters[name] = nn.Parameter(value.float().clone(), requires_grad=False)
    return adapter.eval()


def load_adapter(path: Path | str) -> Adapter:
    """Read an adapter. Raises AdapterError for pickles, large, broken or foreign files, wrong shapes and NaNs."""
    path = Path(path)
    _refuse_other_files(path)
    tensors, metadata = _read(path)
    adapter = Adapter(_info(metadata, path.name))
    _check_tensors(tensors, adapter.state_dict(), path.name)
    return filled(adapter, tensors)


def read_header(path: Path | str) -> AdapterInfo:
    """What an adapter file says about itself, its weights unread. Raises AdapterError for files that are no adapter."""
    path = Path(path)
    _refuse_other_files(path)
    return _info(_read(path, weights=False)[1], path.name)


def read_info(path: Path | str) -> AdapterInfo:
    """What an adapter file says about itself, after the same checks as ``load_adapter``."""
    return load_adapter(path).info


# -- the authors' own files ------------------------------------------------

_AUTHORS_LAYERS = ("fc1", "fc2", "fc3")


def convert_authors(path: Path | str, base: str, concepts: Sequence[str], label_range: tuple[float, float]) -> Adapter:
    """An adapter from the state dict (.pth) of the authors' three-layer MLP; its inputs are not normalised.

    The file is read with ``weights_only``: no code in it is run. It says nothing of base model, concepts or label
    range, so the caller does.
    """
    path = Path(path)
    if not path.is_file():
        raise AdapterError(f"there is no file {path}")
    if path.stat().st_size > MAX_FILE_BYTES:
        raise AdapterError(f"{path.name} has {path.stat().st_size:,} bytes; an adapter has at most {MAX_FILE_BYTES:,}")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for files that are no plain state dict
        raise AdapterError(f"{path.name} cannot be read as plain weights ({type(error).__name__})") from error
    expected = [f"{layer}.{part}" for layer in _AUTHORS_LAYERS for part in ("weight", "bias")]
    if not isinstance(state, dict) or sorted(state) != sorted(expected):
        found = ", ".join(map(str, state)) if isinstance(state, dict) else type(state).__name__
        raise AdapterError(f"{path.name} holds {found}; expected the state dict {', '.join(expected)}")
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
    names = dict(zip(_AUTHORS_LAYERS, ("hidden.0", "hidden.1", "out"), strict=True))
    tensors = {f"{names[key.split('.')[0]]}.{key.split('.')[1]}": value.float() for key, value in state.items()}
    tensors |= {"input_mean": torch.zeros(adapter.info.inputs), "input_std": torch.ones(adapter.info.inputs)}
    _check_tensors(tensors, adapter.state_dict(), path.name)
    return filled(adapter, tensors)
