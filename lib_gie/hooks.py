"""Attaches an erasure to a UNet: forward hooks that watch the rows and add the inhibitors' term."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from .attention import AttentionLayer, family_of, find_cross_attention
from .batches import (
    Rows,
    at_noise,
    batch_size,
    context_of,
    distinct_rows,
    latents_of,
    replace_context,
    rows_within,
    select,
    take_rows,
)
from .composition import CROSS, Follower
from .encoding import EncodedConcept
from .erasure import Erasure, Target
from .errors import ErasureError
from .handles import take_off
from .inhibitor import LayerConcepts, column_scales
from .scale import FixedScale
from .statistics import Reading, token_means

Undisturbed = Callable[[], AbstractContextManager]
"""Makes a context around UNet calls that are not the host's, which leaves the host's own randomness as it was."""

_inner = threading.local()
"""``owner``: the attachment whose own UNet call (probe, concept pass, the other trajectory's) runs in this thread.

Others let it pass but for its ``guests``, which erase from it.
"""


@dataclass
class _Call:
    """One UNet call: its rows, what the attention layers shall do in it and how many of them ran."""

    batch: int
    rows: Rows  # the conditional ones
    names: tuple[Hashable, ...]  # of the conditional ones
    task: str  # "inject", "watch", "probe", "concept" or "follow"
    scales: torch.Tensor | None = None  # w of all columns, float32 [conditional rows, columns]
    concept: int = 0  # of the "concept" task
    fired: Counter[int] = field(default_factory=Counter)  # how often each layer has run
    contexts: dict[int, torch.Tensor] = field(default_factory=dict)  # by layer: what it attended to when it first ran


class Attachment:
    """The hooks of one erasure on one UNet. Use ``attach``; this is what it yields."""

    def __init__(self, unet: nn.Module, erasure: Erasure, undisturbed: Undisturbed = nullcontext):
        self.unet = unet
        self.erasure = erasure
        self._undisturbed = undisturbed
        self.layers = find_cross_attention(unet)
        heads = [layer.heads for layer in self.layers]
        for target in erasure.targets:
            target.rule.check_model(family_of(self.layers), heads)
        self._encoded: Sequence[EncodedConcept] = [target.encoded for target in erasure.targets]
        self._handles: list[tuple[nn.Module, RemovableHandle]] = []
        self._uses = 0
        self._folded: dict[int, LayerConcepts] = {}
        self._inputs: dict[int, torch.Tensor] = {}  # by layer: [B, N, C], while it runs
        self._queries: dict[int, dict[int, torch.Tensor]] = {}  # by layer, by first row: [rows, N, h*d]
        self._means: dict[int, list[torch.Tensor]] = {}  # by layer in the order of their runs, by concept: [rows, h, n]
        self._concept_maps: dict[tuple[int, int], torch.Tensor] = {}
        self._follower: Follower | None = None
        if erasure.composition is not None:
            self._follower = Follower(unet, self.layers, self._is_ours)
        self._call: _Call | None = None

    # -- coming and going ------------------------------------------------

    def enter(self) -> None:
        """Put the hooks onto the UNet; a second time changes nothing."""
        self._uses += 1
        if self._handles:
            return
        self._hooked(self.unet, self.unet.register_forward_pre_hook(self._before_unet, with_kwargs=True))
        self._hooked(self.unet, self.unet.register_forward_hook(self._after_unet))
        for index, layer in enumerate(self.layers):
            module = layer.module
            self._hooked(module, module.register_forward_pre_hook(self._input_hook(index), with_kwargs=True))
            self._hooked(module.to_q, module.to_q.register_forward_hook(self._query_hook(index)))
            self._hooked(module, module.register_forward_hook(self._layer_hook(index), with_kwargs=True))
        if self._follower is not None:
            self._handles += self._follower.attach()

    def _hooked(self, module: nn.Module, handle: RemovableHandle) -> None:
        self._handles.append((module, handle))

    def leave(self) -> None:
        """Take the hooks off again once as many have left as entered."""
        self._uses -= 1
        if self._uses > 0:
            return
        for module, handle in self._handles:
            take_off(module, handle)
        self._handles.clear()
        self._forget_call()
        self._folded.clear()

    def _forget_call(self) -> None:
        self._call = None
        self._inputs.clear()
        self._queries.clear()
        self._concept_maps.clear()
        if self._follower is not None:
            self._follower.forget()

    # -- around the UNet ------------------------------------------------

    def _before_unet(self, unet: nn.Module, args: tuple, kwargs: dict) -> None:
        if getattr(_inner, "owner", None) is not None:
            return
        self._forget_call()
        with self.erasure.refusals_kept():
            self._begin_call(args, kwargs)

    def _begin_call(self, args: tuple, kwargs: dict) -> None:
        latents = latents_of(args, kwargs)  # [B, C, H, W]
        batch = len(latents)
        rows = self.erasure.take(latents, context_of(args[1:], kwargs))
        indices = [index for index, row in enumerate(rows) if row is not None]
        names = tuple(rows[index] for index in indices)
        if not names:
            self._call = _Call(batch, slice(0, 0), (), "watch")
            return
        chosen = select(indices)
        self._resolve_scales(args, kwargs, batch, chosen, names)
        scales = self.erasure.scale_batch(names)  # on the CPU: nothing waits for the device
        any_scale = any(bool((scale != 0).any()) for scale in scales)
        inject, recorder = self.erasure.injects and any_scale, self.erasure.recorder
        separate = self.erasure.concept_pass == "separate" and (inject or (recorder is not None and recorder.is_due))
        if separate or self.erasure.is_paired:
            own = take_rows(args, chosen, batch), take_rows(kwargs, chosen, batch)
            self._run_own_calls(own, chosen, batch, names, any_scale, separate)
        columns = column_scales(scales, self._encoded, self.erasure.padding)  # [rows, columns]
        device = context_of(args[1:], kwargs).device
        self._call = _Call(batch, chosen, names, "inject" if inject else "watch", columns.to(device))

    def _after_unet(self, unet: nn.Module, args: tuple, output) -> None:
        if getattr(_inner, "owner", None) is not None:
            return
        call = self._call
        try:
            with self.erasure.refusals_kept():
                if call is None:
                    raise ErasureError("the UNet's rows were not looked at before it ran; nothing was erased")
                self._check_fired(call)
                if self._follower is not None:
                    self._follower.check_used()
        finally:
            self._forget_call()

    def _check_fired(self, call: _Call) -> None:
        if len(call.fired) != len(self.layers):
            self.erasure.invalidate()
            raise ErasureError(
                f"{len(call.fired)} of the {len(self.layers)} cross-attention layers ran in a UNet call, so the "
                f"concept could not be erased. A custom UNet (TensorRT, a compiled or caching one) or another "
                f"extension replaces the attention layers: switch it off"
            )
        if len(set(call.fired.values())) > 1:
            self.erasure.invalidate()
            raise ErasureError(
                f"some cross-attention layers ran {max(call.fired.values())} times in one UNet call and others "
                f"{min(call.fired.values())} times, so it is unknown what the image was made of. Another extension "
                f"runs them by itself: switch it off"
            )

    def _resolve_scales(self, args, kwargs, batch: int, rows: Rows, names: tuple[Hashable, ...]) -> None:
        context = context_of(args[1:], kwargs)[rows]  # [rows, L, D]
        numbers = self.erasure.unresolved(names, context)
        if not numbers:
            return
        args, kwargs = take_rows(args, rows, batch), take_rows(kwargs, rows, batch)
        readings = {number: self.erasure.targets[number].rule.reading for number in numbers}
        means = {
            noise: self._probe(args, kwargs, names, noise)
            for noise in {reading.noise for reading in readings.values() if reading is not None}
        }
        inputs = {
            number: None if reading is None else reading.inputs([layer[number] for layer in means[reading.noise]])
            for number, reading in readings.items()
        }
        self.erasure.set_scales(names, context, inputs)

    @contextmanager
    def _own_call(self, call: _Call) -> Iterator[None]:
        """Within it the UNet runs for this attachment alone; afterwards all layers must have run."""
        _inner.owner, self._call = self, call
        try:
            with self._undisturbed():
                yield
        finally:
            _inner.owner, self._call = None, None
            self._inputs.clear()
            self._queries.clear()
        self._check_fired(call)

    def _probe(self, args, kwargs, names: tuple[Hashable, ...], noise: int | None) -> list[list[torch.Tensor]]:
        """Token means under the prompt, without injection: by layer, by concept float32 [rows, h, n].

        The layers are in call order, which is the same in all libraries (that of their modules is not). ``args``,
        ``kwargs``: those of the conditional rows; ``noise``: the seed of the noise to read at, None: the images' own.
        """
        if noise is None:
            return self._read(args, kwargs, names)
        args, kwargs = at_noise(args, kwargs, noise)
        if any("forward" in vars(layer.module) for layer in self.layers):
            return self._read(args, kwargs, names)  # another extension's, which may count on whole batches
        chosen, equals = distinct_rows(args, kwargs, len(names))  # images of one prompt need one row
        rows = select(chosen)
        args, kwargs = take_rows(args, rows, len(names)), take_rows(kwargs, rows, len(names))
        means = self._read(args, kwargs, tuple(names[row] for row in chosen))
        return [[mean[equals] for mean in layer] for layer in means]

    def _read(self, args, kwargs, names: tuple[Hashable, ...]) -> list[list[torch.Tensor]]:
        """Token means of exactly this call: by layer, by concept float32 [rows, h, n]."""
        self._means = {}
        with torch.no_grad(), self._own_call(_Call(len(names), slice(0, len(names)), names, "probe")):
            self.unet(*args, **kwargs)
        means, self._means = self._means, {}
        return list(means.values())

    def _run_concept_passes(self, args: tuple, kwargs: dict, names: tuple[Hashable, ...]) -> None:
        """Algorithm 1's DM(z_t, c*, t) for each concept; only the concept's own columns of M* are kept."""
        like = context_of(args[1:], kwargs)  # [rows, L, D]
        for index, target in enumerate(self.erasure.targets):
            states = target.encoded.states.to(like.device, like.dtype).expand(len(names), -1, -1)  # [rows, L*, D]
            new_args, new_kwargs = replace_context(args, kwargs, states)
            call = _Call(len(names), slice(0, len(names)), names, "concept", concept=index)
            with torch.no_grad(), self._own_call(call):
                self.unet(*new_args, **new_kwargs)

    # -- the image without erasure ------------------------------------------------

    def _run_own_calls(
        self, own: tuple[tuple, dict], rows: Rows, batch: int, names: tuple[Hashable, ...], any_scale: bool,
        separate: bool,
    ) -> None:  # fmt: skip
        """What has to be known before this call runs. ``own``: the arguments of its conditional rows, ``rows``.

        Where the prompt's maps of the image without erasure are taken over, they go on asking for the concept where it
        was: it must be inhibited there, so its attention is read from that image, too.
        """
        recorded, kinds = self._twins_call(own, names)
        if not any_scale:
            kinds = frozenset()  # nothing is erased: both are the same
        if separate:
            self._run_concept_passes(*(recorded if CROSS in kinds else own), names)
        if kinds:
            self._follow(*recorded, names, kinds)
            self._follower.replace_in(rows, batch)

    def _twins_call(self, own: tuple[tuple, dict], names: tuple[Hashable, ...]) -> tuple:
        """Write this call down for another trajectory. Returns the call of the one before, and what to take over."""
        if self.erasure.trace is not None:
            self.erasure.trace.record(names, *own)
        if self.erasure.composition is None:
            return own, frozenset()
        return self.erasure.composition.next_call(names, *own), self.erasure.follows

    def _follow(self, args, kwargs, names: tuple[Hashable, ...], kinds: frozenset[str]) -> None:
        """Run the recorded call once more to keep its queries and keys. What else is erased is erased from it, too."""
        call = _Call(len(names), slice(0, len(names)), names, "follow")
        with self._follower.keeping(kinds, len(names)), self._guests(call), torch.no_grad(), self._own_call(call):
            self.unet(*args, **kwargs)

    @contextmanager
    def _guests(self, call: _Call) -> Iterator[None]:
        """Attachments that erase other concepts from the same rows shall do so in ``call`` as in the recorded one."""
        guests = [
            other
            for (unet, _), other in _attachments.items()
            if unet == id(self.unet)
            and other is not self
            and other._call is not None
            and other._call.names == call.names
        ]
        before = [(other._call, other._concept_maps) for other in guests]
        for other, (own, _) in zip(guests, before, strict=True):
            other._call = replace(call, task=own.task, scales=own.scales, fired=Counter(), contexts={})
            other._concept_maps = {}  # those are this image's
        _inner.guests = guests
        try:
            yield
            for other in guests:
                other._check_fired(other._call)
        finally:
            _inner.guests = []
            for other, kept in zip(guests, before, strict=True):
                other._call, other._concept_maps = kept

    # -- in the attention layers ------------------------------------------------

    def _is_ours(self) -> bool:
        owner = getattr(_inner, "owner", None)
        return self._call is not None and (owner in (None, self) or self in getattr(_inner, "guests", ()))

    def _input_hook(self, index: int):
        def keep_input(module: nn.Module, args: tuple, kwargs: dict) -> None:
            if self._is_ours():
                self._inputs[index] = args[0] if args else next(iter(kwargs.values()))  # [B, N, C]

        return keep_input

    def _query_hook(self, index: int):
        def keep_query(module: nn.Module, args: tuple, output: torch.Tensor) -> None:
            if self._is_ours():
                rows = rows_within(args[0], self._inputs[index]) if args and index in self._inputs else None
                first = 0 if rows is None else rows.start
                self._queries.setdefault(index, {})[first] = output  # [rows, N, h*d]

        return keep_query

    def _layer_hook(self, index: int):
        def run_layer(module: nn.Module, args: tuple, kwargs: dict, output: torch.Tensor) -> torch.Tensor | None:
            if self._is_ours():
                with self.erasure.refusals_kept():
                    return self._run_layer(index, context_of(args, kwargs), output)
            if self._call is not None or is_inner_call():
                return None
            error = ErasureError(
                f"attention layer {self.layers[index].name} ran outside a call of the UNet that could be watched; "
                f"nothing was erased. Something calls the UNet's forward directly: switch it off"
            )
            raise self.erasure.ledger.refuse(error)

        return run_layer

    def _concepts(self, index: int, context: torch.Tensor) -> LayerConcepts:
        if index not in self._folded:
            self._folded[index] = LayerConcepts(self.layers[index], self._encoded, context, self.erasure.padding)
        return self._folded[index]

    def _query(self, call: _Call, index: int) -> torch.Tensor:
        """The conditional rows' queries of a layer, [rows, N, h*d], taken out of the store."""
        layer: AttentionLayer = self.layers[index]
        parts = self._queries.pop(index, None)
        if parts is None:
            raise ErasureError(f"attention layer {layer.name} ran without calling its to_q; it cannot be erased from")
        query = parts.get(0)
        if query is None or query.shape[0] != call.batch:
            query = self._joined(parts, call.batch, layer.name)
        return query[call.rows]  # [rows, N, h*d]

    @staticmethod
    def _joined(parts: dict[int, torch.Tensor], batch: int, name: str) -> torch.Tensor:
        """The queries of a whole batch, [B, N, h*d], of which some extensions compute conditional rows by themselves.

        ``parts``: by first row, [rows, N, h*d] each.
        """
        found, end = [], 0
        for first, part in sorted(parts.items()):
            if first == end:
                found.append(part)
                end += part.shape[0]
        if end != batch:
            raise ErasureError(
                f"attention layer {name} saw {max(len(part) for part in parts.values())} rows in a UNet call of "
                f"{batch}; another extension rearranges the batch inside the UNet: switch it off"
            )
        return torch.cat(found)

    def _check_run(self, call: _Call, index: int, context: torch.Tensor) -> None:
        """A layer may run again in a UNet call for the same rows, as for ControlNet's reference image."""
        call.fired[index] += 1
        first = call.contexts.setdefault(index, context)
        if call.fired[index] == 1:
            return
        name = self.layers[index].name
        if first is not context and (first.shape != context.shape or not torch.equal(first, context)):
            raise ErasureError(f"attention layer {name} ran twice in one UNet call, with another prompt")
        if self.erasure.concept_pass == "separate" or self.erasure.is_paired:
            raise ErasureError(
                f"attention layer {name} ran twice in one UNet call, as ControlNet's reference modes let it. Then the "
                f"concept's attention must be taken from the image's own pass: set the concept pass to fused, and "
                f"neither keep the composition nor follow it"
            )

    def _run_layer(self, index: int, context: torch.Tensor, output: torch.Tensor) -> torch.Tensor | None:
        call = self._call
        self._check_run(call, index, context)
        if not call.names or not self._has_work(call, index):
            self._queries.pop(index, None)
            return None
        query = self._query(call, index)
        concepts = self._concepts(index, context)
        if call.task == "probe":
            numbers = range(len(self._encoded))
            means = [token_means(concepts.own(concepts.maps(query, number), number)) for number in numbers]
            self._means.pop(index, None)  # the last run is the image's own
            self._means[index] = [mean.cpu() for mean in means]
            return None
        if call.task == "concept":
            self._concept_maps[index, call.concept] = concepts.maps(query, call.concept)
            return None
        return self._inject(call, index, concepts, query, output)

    def _has_work(self, call: _Call, index: int) -> bool:
        if call.task == "follow":
            return False
        return call.task != "watch" or self._records(next(iter(self._queries.get(index, {}).values()), None))

    def _records(self, query: torch.Tensor | None) -> bool:
        recorder = self.erasure.recorder
        return recorder is not None and query is not None and recorder.wants(query.shape[1]) and not is_inner_call()

    def _inject(self, call: _Call, index: int, concepts: LayerConcepts, query, output) -> torch.Tensor | None:
        maps = self._maps_of_pass(index)
        if self._records(query):
            self._record(call, concepts, query, maps)
        if call.task != "inject":
            return None
        # the layer has just made its output, so it may be changed in place unless it is part of a graph
        result = output.clone() if output.requires_grad else output
        chosen = result[call.rows]  # [rows, N, C_out], a view where the rows are neighbours
        if maps is None:
            concepts.add(chosen, query, call.scales)
        else:
            concepts.add_maps(chosen, maps, call.scales)
        if not isinstance(call.rows, slice):
            result[call.rows] = chosen
        return result

    def _maps_of_pass(self, index: int) -> list[torch.Tensor] | None:
        """Of every concept its own pass's maps, [rows, h, N, columns]; None where there was no such pass."""
        maps = [self._concept_maps.pop((index, number), None) for number in range(len(self._encoded))]
        return None if maps[0] is None else maps

    def _record(self, call: _Call, concepts: LayerConcepts, query: torch.Tensor, maps) -> None:
        for number in range(len(self._encoded)):
            found = concepts.maps(query, number) if maps is None else maps[number]  # [rows, h, N, columns]
            self.erasure.recorder.add(number, call.names, concepts.own(found, number).detach())


_attachments: dict[tuple[int, int], Attachment] = {}
"""Live attachments by the identities of UNet and erasure (both are kept alive by the attachment)."""


@contextmanager
def attach(unet: nn.Module, erasure: Erasure, undisturbed: Undisturbed = nullcontext) -> Iterator[Attachment]:
    """Within the context, every call of ``unet`` erases what ``erasure`` says from its conditional rows.

    Attaching the same erasure to the same UNet again changes nothing; different erasures on one UNet add up; several
    UNets are independent. Nothing stays behind, also after an exception.

    ``undisturbed``: a context around UNet calls that are not the host's, where the host keeps its own randomness.

    Raises UnsupportedModelError for a UNet without usable cross-attention, AdapterError where an adapter does not fit.
    """
    key = (id(unet), id(erasure))
    attachment = _attachments.get(key) or Attachment(unet, erasure, undisturbed)
    _attachments[key] = attachment
    attachment.enter()
    try:
        yield attachment
    finally:
        attachment.leave()
        if attachment._uses == 0:
            _attachments.pop(key, None)


def is_inner_call() -> bool:
    """Whether the running UNet call is an attachment's own (probe or concept pass), which hosts do not announce."""
    return getattr(_inner, "owner", None) is not None


def read_attention(
    unet: nn.Module, concepts: Sequence[EncodedConcept], reading: Reading, args: tuple, kwargs: dict | None = None
) -> list[torch.Tensor]:
    """What rules with this reading would see in a UNet call whose rows are all conditional.

    ``args``, ``kwargs``: the call's (latents [B, C, H, W], timesteps, context [B, L, D]). Returns for each concept
    float32 [B, inputs, n].
    """
    kwargs = kwargs or {}
    attachment = Attachment(unet, Erasure([Target(concept, FixedScale(0)) for concept in concepts]))
    attachment.enter()
    try:
        means = attachment._probe(args, kwargs, tuple(range(batch_size(args, kwargs))), reading.noise)
    finally:
        attachment.leave()
    return [reading.inputs([layer[number] for layer in means]) for number in range(len(concepts))]
