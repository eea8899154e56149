"""Growth inhibitors for Stable Diffusion pipelines of diffusers, as a context manager."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch

from lib_gie.checks import quoted
from lib_gie.core.call import Args, Kwargs, UNetCall
from lib_gie.core.composition import Composition, Follower, Trace
from lib_gie.core.concepts import Concept, parse_concepts
from lib_gie.core.encoding import check_token_count
from lib_gie.core.erasure import Erasure, check_adapter
from lib_gie.core.layers import find_cross_attention
from lib_gie.core.recorder import AttentionRecorder
from lib_gie.core.rules import erasing_rule
from lib_gie.core.scales.adapter import Adapter, load_adapter
from lib_gie.core.scales.scale_rules import FixedScale, Guarded, ScaleRule
from lib_gie.core.session import check_rules, is_inner_call
from lib_gie.demo.fixed_scale import default_scale
from lib_gie.errors import ConceptError, ErasureError, OptionError
from lib_gie.options import CROSS_SHARE, SELF_SHARE, ErasureSettings

from .calls import UNetWatch, watch_calls, wrap_encoder
from .classes import layout_of
from .erased_call import ErasedCall, called_outside
from .model import check_model, eager
from .prompt_rows import Wish
from .texts import concept_tokens

_generating: list[GrowthInhibitors] = []
"""The GrowthInhibitors whose pipelines are being called, innermost last."""


def scale_rule(
    scale: float | None, adapter: ScaleRule | Path | str | None, rule: str = ErasureSettings.rule
) -> ScaleRule:
    """Make the rule for a fixed scale, an adapter (its file, or any ScaleRule), or neither: the erasing rule's usual.

    An adapter is guarded: where it cannot know, w is at least its model family's fixed scale (see ``Guarded``). Raises
    OptionError where both are given, and for an adapter where the erasing rule ``rule`` takes none.
    """
    if scale is not None and adapter is not None:
        raise OptionError("both a scale and an adapter are given; give one of them, or strength to vary an adapter")
    if adapter is None:
        return FixedScale(erasing_rule(rule).range.default if scale is None else scale)
    if isinstance(adapter, (Path, str)):
        adapter = load_adapter(adapter)
    found = Guarded(adapter, default_scale(adapter.info.base)) if isinstance(adapter, Adapter) else adapter
    check_adapter(found, rule)
    return found


def adapter_notes(rule: ScaleRule, concepts: Sequence[Concept]) -> list[str]:
    """Say where an adapter was fitted for other concepts, or does not tell what it was fitted on."""
    if not isinstance(rule, Guarded):
        return []
    known = rule.adapter
    found = [
        f"the adapter was fitted for {', '.join(known.info.concepts)}, not for {concept.text!r}"
        for concept in concepts
        if not known.is_for(concept.key)
    ]
    if not known.knows_its_range:
        found.append("the adapter does not say what it was fitted on, so it cannot be told where it knows nothing")
    return found


def check_fits(unet: torch.nn.Module, rule: ScaleRule, composition: Composition | None) -> None:
    """Raise AdapterError or UnsupportedModelError where a rule or a composition does not fit a UNet."""
    layers = find_cross_attention(unet)
    check_rules(layers, [rule])
    if composition is not None:
        Follower(unet, layers, lambda: False)


def _concepts(given: str | Sequence[Concept]) -> tuple[Concept, ...]:
    """Return the concepts that are given as a text or as objects. Raises ConceptError for anything else."""
    if isinstance(given, str):
        return parse_concepts(given)
    found = tuple(given) if isinstance(given, Iterable) else ()
    if not found or not all(isinstance(concept, Concept) for concept in found):
        raise ConceptError(
            f"the concepts are {quoted(given)}; they must be a text such as 'knife, wine:0.5', or a sequence of at "
            f"least one Concept"
        )
    return found


class GrowthInhibitors:
    """A context in which every call of a Stable Diffusion pipeline erases the concepts from its images.

    ``pipe``: a pipeline of one of the classes in ``classes.LAYOUTS``, or of one that inherits from them.
    ``concepts``: a text such as ``knife, wine:0.5`` or a sequence of Concept. ``scale``: the same w for all (-20 to 0),
    or ``adapter``: an Adapter, its file or another ScaleRule. ``strength``, ``start``, ``end``, ``concept_pass``,
    ``padding``, ``rule`` (the erasing rule): see ErasureSettings. Start and end are fractions of the steps that the
    call makes itself (img2img's strength, SDXL's ``denoising_end``).
    ``record``: also collect where the concepts' attention is, in ``recorder`` (one per pipeline call).
    ``trace``: write down what the images are made from (with ``strength=0``: those without erasure). ``composition``:
    such a trace, of the same call with the same seeds, whose composition the images keep; for fractions of the steps
    ``composition_cross`` and ``composition_self`` (see Composition).

    After a call, ``scales`` holds the resolved w: one tuple per image, in it per concept a float32 [n] tensor.

    Raises ConceptError, OptionError or AdapterError for bad arguments, UnsupportedModelError for other pipelines, and
    from within the pipeline's call ErasureError where the concept cannot be erased.
    """

    def __init__(
        self,
        pipe: Any,
        concepts: str | Sequence[Concept],
        *,
        scale: float | None = None,
        adapter: ScaleRule | Path | str | None = None,
        strength: float = ErasureSettings.strength,
        start: float = ErasureSettings.start,
        end: float = ErasureSettings.end,
        concept_pass: str = ErasureSettings.concept_pass,
        padding: float = ErasureSettings.padding,
        rule: str = ErasureSettings.rule,
        record: bool = False,
        trace: Trace | None = None,
        composition: Trace | None = None,
        composition_cross: float = CROSS_SHARE,
        composition_self: float = SELF_SHARE,
    ):
        layout, rows_known = layout_of(pipe)
        check_model(pipe, layout)
        self.pipe = pipe
        self.concepts = _concepts(concepts)
        for concept in self.concepts:
            check_token_count(concept.text, len(concept_tokens(pipe, concept.text)))
        self.settings = ErasureSettings(strength, start, end, concept_pass, padding, rule)
        self.rule = scale_rule(scale, adapter, self.settings.rule)
        self.trace, self.composition = trace, composition
        self.recorder: AttentionRecorder | None = None
        self._wish = Wish(self.concepts, self.rule, self.settings, layout, rows_known)
        self._record, self._shares = record, (composition_cross, composition_self)
        self._call: ErasedCall | None = None  # that runs, or has run last
        self._stack: ExitStack | None = None
        self._watch = UNetWatch(self._announce)
        if layout.perturbs and (trace is not None or composition is not None):
            raise OptionError(
                f"{type(pipe).__name__} perturbs the attention that keeps a composition; do not keep it, or use the "
                f"pipeline without PAG"
            )
        check_fits(pipe.unet, self.rule, self._new_composition())  # now rather than within the pipeline's call

    def _new_composition(self) -> Composition | None:
        return None if self.composition is None else Composition(self.composition, *self._shares)

    # -- the last call ------------------------------------------------

    @property
    def erasure(self) -> Erasure | None:
        """What is erased in the call that runs, or was in the last one; None before it has encoded its prompts."""
        return None if self._call is None else self._call.erasure

    @property
    def steps_made(self) -> int:
        """The number of steps that the last call made."""
        return 0 if self._call is None else self._call.steps_made

    @property
    def steps_erased(self) -> int:
        """The number of the last call's steps that lie between start and end."""
        return 0 if self._call is None else self._call.steps_erased

    @property
    def scales(self) -> list[tuple[torch.Tensor, ...]]:
        """The resolved w of the last call: per image, per concept a float32 [n] tensor."""
        return [] if self._call is None else self._call.scales

    @property
    def notes(self) -> list[str]:
        """What a user should know of the adapter and the last call: where its answer was not enough, and why."""
        return adapter_notes(self.rule, self.concepts) + ([] if self._call is None else self._call.doubts)

    # -- coming and going ------------------------------------------------

    def __enter__(self) -> GrowthInhibitors:
        if self._stack is not None:
            raise OptionError("this GrowthInhibitors is in use already; make another one for nested use")
        with ExitStack() as stack:
            stack.callback(self._watch.end)
            self._watch.begin(self.pipe.unet)
            stack.callback(wrap_encoder(self.pipe, self._wish.layout.encoder, self._begin))
            stack.enter_context(watch_calls(self.pipe, self._generation))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        if self._stack is not None:
            self._stack.close()
        self._stack = None

    # -- one call of the pipeline ------------------------------------------------

    @contextmanager
    def _generation(self, arguments: dict[str, Any]) -> Iterator[None]:
        """Stand around one call of the pipeline, with these arguments by name, and check it at its end."""
        for other in _generating:
            if other is self or (other.pipe is not self.pipe and other.pipe.unet is self.pipe.unet):
                raise ErasureError(
                    f"{type(self.pipe).__name__} was called from within a call of a pipeline with the same UNet, so "
                    f"the steps of both cannot be told apart; call it afterwards"
                )
        self._watch.begin(self.pipe.unet)
        _generating.append(self)
        try:
            with ExitStack() as attached:
                self._call = call = ErasedCall(self.pipe, self._wish, arguments, attached)
                attached.callback(call.forget)
                attached.enter_context(eager(self.pipe.unet))
                yield
                call.check_end()
        finally:
            _generating.remove(self)

    def _begin(self, encoded: Any, given: dict[str, Any]) -> None:
        """Begin where the pipeline encodes its prompts: then images and contexts are known.

        Every pipeline of the family encodes them once, and first. ``given``: the arguments by name.
        """
        call = self._call
        if call is None or self not in _generating or call.erasure is not None:
            return  # callbacks may encode others on the way
        self.recorder = AttentionRecorder() if self._record else None
        call.begin(encoded, given, recorder=self.recorder, trace=self.trace, composition=self._new_composition())

    def _announce(self, unet: torch.nn.Module, args: Args, kwargs: Kwargs) -> None:
        if is_inner_call():
            return
        if self._call is not None and self in _generating:
            self._call.announce(UNetCall(args, kwargs))
        elif not any(other.pipe.unet is unet for other in _generating):
            raise called_outside()
        # else it is the call of a pipeline that shares the UNet and has inhibitors of its own
