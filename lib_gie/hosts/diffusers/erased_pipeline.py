"""A diffusers pipeline from whose images concepts are erased, by given rules, as a context manager."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, TypeVar

import torch

from lib_gie.core.call import Args, Kwargs, UNetCall
from lib_gie.core.composition import Composition, Follower, Trace
from lib_gie.core.concepts import Concept
from lib_gie.core.encoding import check_token_count
from lib_gie.core.erasure import Erasure
from lib_gie.core.layers import find_cross_attention
from lib_gie.core.recorder import AttentionRecorder
from lib_gie.core.scales.calibrated import Calibration
from lib_gie.core.scales.fitted import kind_name
from lib_gie.core.scales.scale_rules import Guarded, ScaleRule
from lib_gie.core.session import check_rules, is_inner_call
from lib_gie.errors import ErasureError, OptionError
from lib_gie.options import CROSS_SHARE, SELF_SHARE, ErasureSettings

from .calls import UNetWatch, watch_calls, wrap_encoder
from .classes import Layout, layout_of
from .compiled import hooked
from .erased_call import ErasedCall, called_outside
from .model import check_model
from .prompt_rows import Wish
from .texts import concept_tokens

_Own = TypeVar("_Own", bound="ErasedPipeline")

_generating: list[ErasedPipeline] = []
"""Those whose pipelines are being called, innermost last."""


def rule_notes(concepts: Sequence[Concept], rules: Sequence[ScaleRule]) -> list[str]:
    """Say where an adapter or calibration is for another concept, or does not tell what it was fitted on.

    ``rules``: one for each concept.
    """
    both = zip(concepts, rules, strict=True)
    pairs = [(concept, rule.adapter) for concept, rule in both if isinstance(rule, Guarded)]
    found = [
        f"the {kind_name(known)} was fitted for {', '.join(known.info.concepts)}, not for {concept.text!r}"
        for concept, known in pairs
        if not known.is_for(concept.key)
    ]
    if not all(known.knows_its_range for _, known in pairs):
        found.append("the adapter does not say what it was fitted on, so it cannot be told where it knows nothing")
    return found + [known.info.warning for _, known in pairs if isinstance(known, Calibration) and known.info.warning]


def check_pipeline(pipe: Any, concepts: Sequence[Concept]) -> tuple[Layout, bool]:
    """Return the rows of a pipeline's UNet calls, see ``layout_of``.

    Raises UnsupportedModelError for other pipelines, ConceptError for a concept that its tokenizer has no room for.
    """
    layout, rows_known = layout_of(pipe)
    check_model(pipe, layout)
    for concept in concepts:
        check_token_count(concept.text, len(concept_tokens(pipe, concept.text)))
    return layout, rows_known


def check_fits(unet: torch.nn.Module, rules: Sequence[ScaleRule], composition: Composition | None) -> None:
    """Raise AdapterError or UnsupportedModelError where rules or a composition do not fit a UNet."""
    layers = find_cross_attention(unet)
    check_rules(layers, rules)
    if composition is not None:
        Follower(unet, layers, lambda: False)


class ErasedPipeline:
    """A context in which every call of a Stable Diffusion pipeline erases the concepts from its images.

    ``rules``: of the scales, one for each concept. For all else see ``GrowthInhibitors``, which finds the rules.
    """

    def __init__(
        self,
        pipe: Any,
        concepts: Sequence[Concept],
        rules: Sequence[ScaleRule],
        settings: ErasureSettings,
        *,
        record: bool = False,
        trace: Trace | None = None,
        composition: Trace | None = None,
        composition_cross: float = CROSS_SHARE,
        composition_self: float = SELF_SHARE,
    ):
        layout, rows_known = check_pipeline(pipe, concepts)
        self.pipe, self.concepts, self.rules, self.settings = pipe, tuple(concepts), tuple(rules), settings
        self.trace, self.composition = trace, composition
        self.recorder: AttentionRecorder | None = None
        self._wish = Wish(self.concepts, self.rules, self.settings, layout, rows_known)
        self._record, self._shares = record, (composition_cross, composition_self)
        self._call: ErasedCall | None = None  # that runs, or has run last
        self._stack: ExitStack | None = None
        self._watch = UNetWatch(self._announce)
        if layout.perturbs and (trace is not None or composition is not None):
            raise OptionError(
                f"{type(pipe).__name__} perturbs the attention that keeps a composition; do not keep it, or use the "
                f"pipeline without PAG"
            )
        check_fits(pipe.unet, self.rules, self._new_composition())  # now rather than within the pipeline's call

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
        return rule_notes(self.concepts, self.rules) + ([] if self._call is None else self._call.replacement_notes)

    # -- coming and going ------------------------------------------------

    def __enter__(self: _Own) -> _Own:
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
                attached.enter_context(hooked(self.pipe.unet, arguments, needs_all=self.composition is not None))
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
