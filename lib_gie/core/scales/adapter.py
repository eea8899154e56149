"""The adapter: a small MLP that reads w off the first step's attention (paper, section 3.3), and its file format."""

from __future__ import annotations

import hashlib
import io
import itertools
import json
import math
import os
import struct
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from stat import S_ISREG
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save_file
from torch import nn

from lib_gie import __version__
from lib_gie.checks import quoted
from lib_gie.core.layers import UNKNOWN
from lib_gie.core.recorder import PAPER, Reading
from lib_gie.errors import AdapterError

from .input_range import DIRECTIONS, NAMES, PREFIX, InputRange

FORMAT = "1"
T = TypeVar("T")

HIDDEN = (64, 32)
MAX_FILE_BYTES = 4 * 2**20
"""An adapter has a few thousand parameters; a larger file is something else."""

MAX_INPUTS = 4096
MAX_SIDE = 512
"""Of the size that is read at, in latents: 4096 pixels."""
_MOST_HEADER, _MOST_CHARACTERS, _MOST_DEPTH, _MOST_DIGITS = 2**18, 4000, 16, 18  # of what a file says about itself


@dataclass(frozen=True)
class AdapterInfo:
    """What a file says about its adapter.

    ``base``: model family it was trained on ("sd1", "sd2", "sdxl", "gie-demo"); ``inputs``: of the MLP, as many as
    ``reading`` reads from that family's UNet; ``concepts``: the concepts it was trained for; ``label_range``: (least,
    greatest) scale among its labels, both <= 0; ``training``, ``validation``: figures, free-form. ``conditions``: what
    else the images were made with that it was fitted on ("clip_skip", "cfg"), as far as it is known.
    """

    base: str
    inputs: int
    concepts: tuple[str, ...]
    label_range: tuple[float, float]
    reading: Reading = PAPER
    training: dict[str, Any] = field(default_factory=dict)
    validation: dict[str, Any] = field(default_factory=dict)
    conditions: dict[str, float] = field(default_factory=dict)
    created_by: str = f"lib_gie {__version__}"

    def __post_init__(self) -> None:
        low, high = self.label_range
        if not (math.isfinite(low) and math.isfinite(high) and low <= high <= 0):
            raise AdapterError(
                f"the label range is {low} to {high}; it must be two finite scales, the smaller first, none above 0"
            )
        if not 1 <= self.inputs <= MAX_INPUTS:
            raise AdapterError(f"the adapter has {self.inputs} inputs; expected 1 to {MAX_INPUTS}")
        if not self.base or len(self.base) > 100:
            raise AdapterError("the adapter does not say which model family it was trained on (base)")
        if not self.concepts:
            raise AdapterError("the adapter does not say which concepts it was trained for")


def _layer(inputs: int, outputs: int, generator: torch.Generator) -> nn.Linear:
    """A layer with random weights of its own: nn.Linear draws its from the numbers that images are made of."""
    layer, bound = nn.Linear(inputs, outputs, device="meta"), inputs**-0.5
    for name, shape in (("weight", (outputs, inputs)), ("bias", (outputs,))):
        drawn = torch.empty(shape, device="cpu").uniform_(-bound, bound, generator=generator)
        layer._parameters[name] = nn.Parameter(drawn)  # see ``filled``
    return layer


class Adapter(nn.Module):
    """MLP n-64-32-1 over normalised attention means; one scale per image and concept token.

    ``range``: what its inputs were like when it was fitted; None where its file does not say (those of versions before
    this one, and the authors').
    """

    range: InputRange | None = None
    input_mean: torch.Tensor
    input_std: torch.Tensor

    def __init__(self, info: AdapterInfo):
        super().__init__()
        self.info = info
        self.register_buffer("input_mean", torch.zeros(info.inputs))
        self.register_buffer("input_std", torch.ones(info.inputs))
        widths = (info.inputs, *HIDDEN)
        generator = torch.Generator().manual_seed(0)
        self.hidden = nn.ModuleList(_layer(a, b, generator) for a, b in itertools.pairwise(widths))
        self.out = _layer(HIDDEN[-1], 1, generator)

    @property
    def reading(self) -> Reading:
        """What its inputs are."""
        return self.info.reading

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Unclamped scales: float32 [..., inputs] -> [...]."""
        x = (inputs - self.input_mean) / self.input_std  # [..., inputs]
        # not layer(x): the WebUI's LoRA support replaces nn.Linear.forward for all modules of the process
        for layer in self.hidden:
            weight, bias = layer.get_parameter("weight"), layer.get_parameter("bias")
            x = torch.relu(nn.functional.linear(x, weight, bias))  # [..., width]
        return nn.functional.linear(x, self.out.weight, self.out.bias)[..., 0]  # [...]

    @torch.no_grad()
    def scales(self, inputs: torch.Tensor | None, rows: int, tokens: int) -> torch.Tensor:
        """w within the label range, never above 0: float32 [rows, inputs, tokens] -> [rows, tokens]."""
        if inputs is None:
            raise AdapterError("the adapter needs the attention at t = T and got none")
        low, high = self.info.label_range
        with torch.autocast(inputs.device.type, enabled=False):
            found = self.forward(inputs.float().transpose(1, 2))  # [rows, tokens]
        if not torch.isfinite(found).all():  # no clamp makes a scale of it
            raise AdapterError(
                f"the adapter for {', '.join(self.info.concepts)} gives no finite scale for this image, so nothing can "
                f"be erased; choose another adapter, or a fixed scale"
            )
        return found.clamp(low, min(high, 0.0))  # [rows, tokens]

    @torch.no_grad()
    def is_outside(self, inputs: torch.Tensor) -> torch.Tensor:
        """Whether a row is unlike all that it was fitted on: float32 [rows, inputs, n] -> bool [rows].

        False where that is not known: see ``range``.
        """
        if self.range is None:
            return torch.zeros(len(inputs), dtype=torch.bool)
        with torch.autocast(inputs.device.type, enabled=False):
            return self.range.is_outside(inputs)

    def is_for(self, concept: str) -> bool:
        """Whether it was fitted for a concept, given by its folded text."""
        return concept in {known.casefold() for known in self.info.concepts}

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
        read = f"Reading(per_head={self.reading.per_head}, noise={self.reading.noise})"
        digest = hashlib.sha256(f"({self.info.label_range}, {read})".encode())
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
_LATER_KEYS = ("conditions",)
"""Which files of earlier versions lack."""


def save_adapter(adapter: Adapter, path: Path) -> None:
    """Write an adapter as safetensors with its metadata."""
    fields = asdict(adapter.info)
    metadata = {"gie_format": FORMAT, **{key: fields[key] for key in _TEXT_KEYS}}
    metadata |= {key: json.dumps(fields[key]) for key in (*_JSON_KEYS, *_LATER_KEYS)}
    known = {} if adapter.range is None else adapter.range.tensors()
    tensors = {key: value.detach().float().contiguous() for key, value in (adapter.state_dict() | known).items()}
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


def _refuse_other_kinds(stat: os.stat_result, name: str) -> None:
    if not S_ISREG(stat.st_mode):
        raise AdapterError(
            f"there is no adapter file {name}: it is a folder, a device or a pipe; choose one of those listed, or a "
            f"fixed scale"
        )
    if stat.st_size > MAX_FILE_BYTES:
        raise AdapterError(
            f"{name} has {stat.st_size:,} bytes; an adapter has at most {MAX_FILE_BYTES:,}. This is another kind of "
            f"file"
        )


def read_file(path: Path | str) -> bytes:
    """The content of an adapter's file. Raises AdapterError unless it is a regular file of the size of an adapter.

    Links are followed. A device or pipe is not opened: to open one can wait for ever, or set something off.
    """
    path = Path(path)
    try:
        _refuse_other_kinds(path.stat(), path.name)
        # it may be another file by the time that it is opened: without waiting, and looked at again
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        with open(descriptor, "rb") as file:
            _refuse_other_kinds(os.fstat(descriptor), path.name)
            data = file.read(MAX_FILE_BYTES + 1)
    except AdapterError:
        raise
    except FileNotFoundError as error:
        raise AdapterError(
            f"there is no adapter file {path.name}; `python -m lib_gie adapters` lists those of models/"
        ) from error
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise AdapterError(
            f"{path.name} cannot be read ({getattr(error, 'strerror', None) or error}); choose another adapter"
        ) from error
    if len(data) > MAX_FILE_BYTES:
        raise AdapterError(f"{path.name} grows while it is read; an adapter has at most {MAX_FILE_BYTES:,} bytes")
    return data


def _refuse_other_contents(data: bytes, name: str) -> None:
    if len(data) > 8 and data[8:9] == b"{" and struct.unpack("<Q", data[:8])[0] <= min(_MOST_HEADER, len(data) - 8):
        return  # a safetensors file; its first bytes are a length, which can look like those of a pickle
    if data[:2] == b"PK" or data[:1] == b"\x80":
        raise AdapterError(
            f"{name} is a pickle, which can run any code when it is opened. Turn it into a safetensors file "
            f"with: python -m lib_gie convert {name}"
        )
    raise AdapterError(f"{name} is no safetensors file, or a broken one; get it again")


def _finite(text: str) -> float | None:
    """A number of a JSON text, None where it is none that other JSON texts can have."""
    value = float(text)
    return value if math.isfinite(value) else None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key is there twice")
    return found


def _read_json(text: str) -> Any:
    """A JSON text's value, of which every part can be written out again. Raises ValueError, RecursionError.

    Numbers that are not finite, and whole ones of more than 18 digits, become None: no other program reads them.
    """
    value = json.loads(
        text,
        parse_float=_finite,
        parse_constant=lambda name: None,
        parse_int=lambda digits: int(digits) if len(digits) <= _MOST_DIGITS else None,
        object_pairs_hook=_once,
    )
    left = [(value, 0)]
    while left:
        part, depth = left.pop()
        if depth > _MOST_DEPTH:
            raise ValueError(f"it is nested more than {_MOST_DEPTH} deep")
        if isinstance(part, str):
            part.encode()  # half of a surrogate pair can be read and not written
        elif isinstance(part, dict):
            left += [(inner, depth + 1) for pair in part.items() for inner in pair]
        elif isinstance(part, list):
            left += [(inner, depth + 1) for inner in part]
    return value


def _metadata(data: bytes) -> dict[str, str]:
    """The texts in a safetensors file's header. Raises ValueError, RecursionError."""
    (length,) = struct.unpack("<Q", data[:8])
    header = _read_json(data[8 : 8 + length].decode())
    metadata = header.get("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise ValueError("its metadata is no table of texts")
    return metadata


def _reading(values: dict[str, Any]) -> Reading:
    per_head, noise = values["per_head"], values["noise"]
    if not isinstance(per_head, bool) or not (noise is None or (type(noise) is int and 0 <= noise < 2**63)):
        raise ValueError("reading is not what it should be")
    return Reading(per_head, noise, _size(values.get("size")))


def _size(value: Any) -> tuple[int, int] | None:
    """Of a reading, in latents: at most what an image of 4096 pixels has."""
    if value is None:
        return None
    if not isinstance(value, list) or len(value) != 2 or not all(type(v) is int and 1 <= v <= MAX_SIDE for v in value):
        raise ValueError("the size is not what it should be")
    height, width = value
    return height, width


def _conditions(values: dict[str, Any]) -> dict[str, float]:
    """Named numbers; others are left out."""
    return {
        str(name): value for name, value in dict(values).items() if type(value) in (int, float) and math.isfinite(value)
    }


def _whole(value: Any) -> int:
    if type(value) is not int:
        raise ValueError("inputs is no whole number")
    return value


def _texts(values: Any) -> tuple[str, ...]:
    if not isinstance(values, list) or not all(isinstance(value, str) and value.strip() for value in values):
        raise ValueError("concepts is no list of texts")
    if sum(map(len, values)) > _MOST_CHARACTERS:
        raise ValueError("concepts is too long")
    return tuple(values)


def _range_of_labels(values: Any) -> tuple[float, float]:
    if not isinstance(values, list) or not all(type(value) in (int, float) for value in values):
        raise ValueError("label_range is no list of numbers")
    low, high = map(float, values)
    return low, high


def _info(metadata: dict[str, str], name: str) -> AdapterInfo:
    if "gie_format" not in metadata:
        raise AdapterError(f"{name} has no growth-inhibitor metadata; it is no adapter, or one of another tool")
    if metadata["gie_format"] != FORMAT:
        raise AdapterError(
            f"{name} has format {quoted(metadata['gie_format'])}, this version reads {FORMAT!r}; update the extension"
        )
    missing = [key for key in (*_TEXT_KEYS, *_JSON_KEYS) if key not in metadata]
    if missing:
        raise AdapterError(f"{name} lacks the metadata {', '.join(missing)}; it cannot be known what it is for")
    try:
        values = {key: _read_json(metadata[key]) for key in _JSON_KEYS}
        return AdapterInfo(
            base=metadata["base"],
            inputs=_whole(values["inputs"]),
            concepts=_texts(values["concepts"]),
            label_range=_range_of_labels(values["label_range"]),
            reading=_reading(values["reading"]),
            training=dict(values["training"]),
            validation=dict(values["validation"]),
            conditions=_conditions(_read_json(metadata.get("conditions", "{}"))),
            created_by=metadata["created_by"],
        )
    except AdapterError as error:
        raise AdapterError(f"{name}: {error}") from error
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise AdapterError(f"{name} has metadata that cannot be read ({quoted(str(error))})") from error


def _check_tensors(tensors: dict[str, torch.Tensor], expected: dict[str, torch.Tensor], name: str) -> None:
    if tensors.keys() != expected.keys():
        found = quoted(", ".join(sorted(tensors)))
        raise AdapterError(f"{name} holds the tensors {found}; expected {', '.join(sorted(expected))}")
    for key, value in tensors.items():
        if value.shape != expected[key].shape:
            raise AdapterError(
                f"{name}: {key} has shape {list(value.shape)}, expected {list(expected[key].shape)} for its number "
                f"of inputs"
            )
        if not value.dtype.is_floating_point or not torch.isfinite(value.float()).all():
            raise AdapterError(f"{name}: {key} holds numbers that are not finite; the file is damaged")
    if (tensors["input_std"].float() <= 0).any():
        raise AdapterError(f"{name}: input_std must be positive; the file is damaged")


def _range(tensors: dict[str, torch.Tensor], inputs: int, name: str) -> InputRange | None:
    """What its inputs looked like in training, taken out of a file's tensors; None where it does not say."""
    found = {key.removeprefix(PREFIX): tensors.pop(key).float() for key in sorted(NAMES & tensors.keys())}
    if not found:
        return None
    count = len(found["directions"]) if "directions" in found and found["directions"].ndim else 0
    expected = {
        "mean": (inputs,), "spread": (inputs,), "directions": (count, inputs), "variances": (count + 1,), "bound": (1,)
    }  # fmt: skip
    shapes = {key: tuple(value.shape) for key, value in found.items()}
    if shapes != expected or not 1 <= count <= DIRECTIONS:
        raise AdapterError(f"{name}: the range of its inputs has the shapes {shapes}, expected {expected}")
    if not all(torch.isfinite(value).all() for value in found.values()):
        raise AdapterError(f"{name}: the range of its inputs holds numbers that are not finite; the file is damaged")
    if min(found[part].min() for part in ("spread", "variances", "bound")) <= 0:
        raise AdapterError(f"{name}: spreads in the range of its inputs must be positive; the file is damaged")
    return InputRange(**found)


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


def _checked(read: Callable[[], T], name: str) -> T:
    """What ``read`` returns; whatever else goes wrong with a file that can hold anything is an AdapterError."""
    try:
        return read()
    except AdapterError:
        raise
    except SafetensorError as error:
        raise AdapterError(f"{name} is a broken safetensors file ({quoted(str(error))}); get it again") from error
    except (UnicodeDecodeError, RecursionError, ValueError) as error:
        raise AdapterError(f"{name} is a broken safetensors file ({type(error).__name__}); get it again") from error
    except Exception as error:
        raise AdapterError(f"{name} cannot be read ({type(error).__name__}); get it again") from error


def adapter_in(data: bytes, name: str) -> Adapter:
    """The adapter in a file's content. Raises AdapterError for pickles, broken or foreign files, wrong shapes, NaNs."""

    def read() -> Adapter:
        _refuse_other_contents(data, name)
        adapter = Adapter(_info(_metadata(data), name))
        tensors = load(data)
        adapter.range = _range(tensors, adapter.info.inputs, name)
        _check_tensors(tensors, adapter.state_dict(), name)
        return filled(adapter, tensors)

    return _checked(read, name)


def header_in(data: bytes, name: str) -> AdapterInfo:
    """What a file's content says about itself, its weights unread. Raises AdapterError where that is no adapter."""

    def read() -> AdapterInfo:
        _refuse_other_contents(data, name)
        return _info(_metadata(data), name)

    return _checked(read, name)


def load_adapter(path: Path | str) -> Adapter:
    """Read an adapter. Raises AdapterError for pickles, large, broken or foreign files, wrong shapes and NaNs."""
    return adapter_in(read_file(path), Path(path).name)


def read_header(path: Path | str) -> AdapterInfo:
    """What an adapter file says about itself, its weights unread. Raises AdapterError for files that are no adapter."""
    return header_in(read_file(path), Path(path).name)


# -- the authors' own files ------------------------------------------------

_AUTHORS_LAYERS = ("fc1", "fc2", "fc3")


def convert_authors(path: Path | str, base: str, concepts: Sequence[str], label_range: tuple[float, float]) -> Adapter:
    """An adapter from the state dict (.pth) of the authors' three-layer MLP; its inputs are not normalised.

    The file is read with ``weights_only``: no code in it is run. It says nothing of base model, concepts or label
    range, so the caller does.
    """
    path = Path(path)
    data = read_file(path)
    try:
        state = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for files that are no plain state dict
        raise AdapterError(f"{path.name} cannot be read as plain weights ({type(error).__name__})") from error
    expected = [f"{layer}.{part}" for layer in _AUTHORS_LAYERS for part in ("weight", "bias")]
    if not isinstance(state, dict) or sorted(state) != sorted(expected):
        found = quoted(", ".join(map(str, state))) if isinstance(state, dict) else type(state).__name__
        raise AdapterError(f"{path.name} holds {found}; expected the state dict {', '.join(expected)}")
    if not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise AdapterError(f"{path.name} holds other things than tensors; expected the state dict of the authors' MLP")
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
