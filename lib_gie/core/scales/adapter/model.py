"""The adapter: a small MLP that reads w off the first step's attention (paper, section 3.3)."""

from __future__ import annotations

import copy
import hashlib
import itertools
from collections.abc import Sequence

import torch
from torch import nn

from lib_gie.core.layers import UNKNOWN
from lib_gie.core.recorder import Reading
from lib_gie.core.scales.input_range import InputRange, outside
from lib_gie.errors import AdapterError

from .info import AdapterInfo

HIDDEN = (64, 32)
ADAPTER = "adapter"
"""The kind of these files, beside calibrations."""


def _layer(inputs: int, outputs: int, generator: torch.Generator) -> nn.Linear:
    """Return a layer with weights from this generator: nn.Linear draws from the random numbers of the images."""
    layer, bound = nn.Linear(inputs, outputs, device="meta"), inputs**-0.5
    for name, shape in (("weight", (outputs, inputs)), ("bias", (outputs,))):
        drawn = torch.empty(shape, device="cpu").uniform_(-bound, bound, generator=generator)
        layer._parameters[name] = nn.Parameter(drawn)  # see ``filled``
    return layer


class Adapter(nn.Module):
    """MLP n-64-32-1 over normalised attention means; one scale per image and concept token.

    Beyond the paper, it may read what the UNet predicts under the prompt as well (``AdapterInfo.predicted``).
    Attention tells little of a scene that implies a concept and that nobody trained on; what is predicted tells it.

    ``range``: the range of its inputs when it was fitted. None where its file does not say: files of earlier versions,
    and the authors'. ``narrow``: an adapter for the same that reads the attention alone. It answers where what is
    predicted could not be read, or where the inputs are out of range. ``cautious``: where both know the prompt the
    stronger answer counts, and where one of them does not, it is outside.
    """

    kind = ADAPTER
    range: InputRange | None = None
    narrow: Adapter | None  # without a value here: torch keeps modules elsewhere, and this one would hide it
    cautious: bool = False
    input_mean: torch.Tensor
    input_std: torch.Tensor

    def __init__(self, info: AdapterInfo):
        super().__init__()
        self.info, self.narrow = info, None
        self.register_buffer("input_mean", torch.zeros(info.inputs))
        self.register_buffer("input_std", torch.ones(info.inputs))
        widths = (info.inputs, *HIDDEN)
        generator = torch.Generator().manual_seed(0)
        self.hidden = nn.ModuleList(_layer(a, b, generator) for a, b in itertools.pairwise(widths))
        self.out = _layer(HIDDEN[-1], 1, generator)

    @property
    def reading(self) -> Reading:
        """Return what its inputs are."""
        return self.info.reading

    @property
    def readings(self) -> tuple[Reading, ...]:
        """Return what its inputs are, as a ScaleRule tells it."""
        return (self.info.reading, *self.info.predicted)

    @property
    def optional(self) -> tuple[Reading, ...]:
        """Return the readings that it can do without."""
        return () if self.narrow is None else self.info.predicted

    @property
    def knows_its_range(self) -> bool:
        """Whether ``is_outside`` can tell anything."""
        return self.range is not None

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return unclamped scales: float32 [..., inputs] -> [...]."""
        x = (inputs - self.input_mean) / self.input_std  # [..., inputs]
        # not layer(x): the WebUI's LoRA support replaces nn.Linear.forward for all modules of the process
        for layer in self.hidden:
            weight, bias = layer.get_parameter("weight"), layer.get_parameter("bias")
            x = torch.relu(nn.functional.linear(x, weight, bias))  # [..., width]
        return nn.functional.linear(x, self.out.weight, self.out.bias)[..., 0]  # [...]

    @torch.no_grad()
    def scales(self, inputs: torch.Tensor | None, rows: int, tokens: int) -> torch.Tensor:
        """Return w within the label range, never above 0: float32 [rows, inputs, tokens] -> [rows, tokens].

        ``inputs``: those of ``readings``; of the optional ones NaN where they could not be read. Raises AdapterError
        where there are no inputs, or where a scale is not finite.
        """
        if inputs is None:
            raise AdapterError("the adapter needs the attention at t = T and got none")
        if self.narrow is None:
            return self.own_scales(inputs)
        known = outside(self.range, inputs).logical_not()  # [rows]; what could not be read is outside
        found = self.narrow.own_scales(inputs[:, : self.info.attention_inputs])  # [rows, tokens]
        if known.any():
            own = self.own_scales(inputs[known])  # [known, tokens]
            found[known] = torch.minimum(own, found[known]) if self.cautious else own
        return found

    @torch.no_grad()
    def own_scales(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return this MLP's answer within the label range: float32 [rows, inputs, tokens] -> [rows, tokens].

        Raises AdapterError where a scale is not finite.
        """
        with torch.autocast(inputs.device.type, enabled=False):
            found = self.forward(inputs.float().transpose(1, 2))  # [rows, tokens]
        if not torch.isfinite(found).all():  # no clamp makes a scale of it
            raise AdapterError(
                f"the adapter for {', '.join(self.info.concepts)} gives no finite scale for this image, so nothing can "
                f"be erased; choose another adapter, or a fixed scale"
            )
        return self.bounded(found)  # [rows, tokens]

    def bounded(self, answers: torch.Tensor) -> torch.Tensor:
        """Return the scales that the MLP's answers stand for: lifted, and within the label range. float32 [...]."""
        (low, high), (factor, full) = self.info.label_range, self.info.lift
        lifted = torch.minimum(answers, (factor * answers).clamp(min=full))  # [...]
        return lifted.clamp(low, min(high, 0.0))

    @torch.no_grad()
    def is_outside(self, inputs: torch.Tensor) -> torch.Tensor:
        """Tell which rows are unlike all that it was fitted on: float32 [rows, inputs, n] -> bool [rows].

        Where ``range`` is None no row is. Where there is a narrow adapter, its attention alone says so: among all the
        inputs a strange attention would not be noticed. A cautious adapter must know what is predicted as well.
        """
        found = outside(self.range, inputs)  # [rows]
        if self.narrow is None:
            return found
        strange = self.narrow.is_outside(inputs[:, : self.info.attention_inputs])  # [rows]
        return strange | found if self.cautious else strange

    def cautiously(self) -> Adapter:
        """Return this adapter, as it is used for what an admin enforces: see ``cautious``."""
        found = copy.copy(self)
        found.cautious = True
        return found

    @property
    def in_full(self) -> float:
        """Return the answer from which a concept counts as present in full: the weakest label with it, if known."""
        return self.info.lift[1] or self.info.label_range[0]

    def is_for(self, concept: str) -> bool:
        """Tell whether it was fitted for a concept, given by its case-folded text."""
        return concept in {known.casefold() for known in self.info.concepts}

    def fits(self, family: str, heads: Sequence[int]) -> bool:
        """Tell whether a model of this family, with these heads of each cross-attention layer, gives its inputs."""
        return family in (self.info.base, UNKNOWN) and self.reading.count(heads) == self.info.attention_inputs

    def check_model(self, family: str, heads: Sequence[int]) -> None:
        """Raise AdapterError for a model of another family, or one that gives another number of inputs."""
        found = self.reading.count(heads)
        if family not in (self.info.base, UNKNOWN):
            raise AdapterError(
                f"the adapter for {', '.join(self.info.concepts)} was trained on {self.info.base}, and this model is "
                f"{family}; choose an adapter for {family}, or a fixed scale"
            )
        if found != self.info.attention_inputs:
            raise AdapterError(
                f"the adapter for {', '.join(self.info.concepts)} was trained on {self.info.base} with "
                f"{self.info.attention_inputs} inputs, and this model gives {found} ({len(heads)} cross-attention "
                f"layers); choose an adapter for this model's family, or a fixed scale"
            )

    @property
    def weights_digest(self) -> str:
        """Return 12 hex digits of the SHA-256 of all that its scales depend on; other metadata does not count."""
        return _digest(self)

    def set_normalisation(self, inputs: torch.Tensor) -> None:
        """Take mean and spread of the training inputs, float32 [samples, inputs]. A constant input gets spread 1."""
        self.input_mean.copy_(inputs.mean(0))
        spread = inputs.std(0, correction=0)  # [inputs]
        self.input_std.copy_(torch.where(spread > 1e-8, spread, torch.ones_like(spread)))


def _digest(adapter: Adapter) -> str:
    """Return an adapter's ``weights_digest``."""
    read = f"Reading(per_head={adapter.reading.per_head}, noise={adapter.reading.noise})"
    digest = hashlib.sha256(f"({adapter.info.label_range}, {read})".encode())
    for _, value in sorted(adapter.state_dict().items()):
        digest.update(value.detach().float().cpu().numpy().tobytes())
    if adapter.info.predicted:
        digest.update(str(adapter.info.predicted).encode())
    if adapter.info.lift[0] != 1:
        digest.update(str(adapter.info.lift).encode())
    if adapter.narrow is not None:  # the ranges decide which of both answers
        known = {} if adapter.range is None else adapter.range.tensors()
        digest.update(b"".join(value.float().numpy().tobytes() for _, value in sorted(known.items())))
    return digest.hexdigest()[:12]


def filled(adapter: Adapter, tensors: dict[str, torch.Tensor]) -> Adapter:
    """Return the adapter with these tensors, put in place one by one.

    While the WebUI loads a model in another thread, every nn.Linear of the process is created without storage, and
    load_state_dict is replaced. Tensors that went through either would be lost.
    """
    for key, value in tensors.items():
        parent, _, name = key.rpartition(".")
        module = adapter.get_submodule(parent)
        if name in module._buffers:
            module._buffers[name] = value.float().clone()
        else:
            module._parameters[name] = nn.Parameter(value.float().clone(), requires_grad=False)
    return adapter.eval()
