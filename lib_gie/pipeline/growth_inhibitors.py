"""``with GrowthInhibitors(pipe, "knife", scale=-3): pipe(prompt)``."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch

from ..adapter import Adapter, load_adapter
from ..batches import batch_size
from ..composition import CROSS_SHARE, SELF_SHARE, Composition, Trace
from ..concepts import Concept, parse_concepts
from ..demo.fixed_scale import default_scale
from ..encoding import EncodedConcept, check_length, check_token_count
from ..erasure import Erasure, Target
from ..errors import ErasureError, OptionError, UnsupportedModelError
from ..hooks import attach, is_inner_call
from ..named import repeated_emphasis, times_in, times_named
from ..scale import DEFAULT_SCALE, UNKNOWN_PROMPT, FixedScale, Guarded, PromptFacts, ScaleRule
from ..statistics import AttentionRecorder

_ENCODING_OPTIONS = ("clip_skip", "lora_scale")


def concept_tokens(pipe: Any, text: str) -> list[str]:
    """The concept's own tokens, as the pipeline's tokenizer splits it, without BOS and EOS.

    A textual inversion counts with all of its vectors, as ``encode_prompt`` takes them.
    """
    check_length(text)
    if hasattr(pipe, "maybe_convert_prompt"):
        text = pipe.maybe_convert_prompt(text, pipe.tokenizer)
    ids = pipe.tokenizer(text, truncation=False, verbose=False).input_ids[1:-1]
    return pipe.tokenizer.convert_ids_to_tokens(ids)


def scale_rule(scale: float | None, adapter: ScaleRule | Path | str | None) -> ScaleRule:
    """The rule for a fixed scale, an adapter (its file, or any ScaleRule), or neither: DEFAULT_SCALE.

    An adapter is guarded: where it cannot know, the fixed scale of its model family is the least (see ``Guarded``).
    """
    if scale is not None and adapter is not None:
        raise OptionError("both a scale and an adapter are given; give one of them, or strength to vary an adapter")
    if adapter is None:
        return FixedScale(DEFAULT_SCALE if scale is None else scale)
    if isinstance(adapter, (Path, str)):
        adapter = load_adapter(adapter)
    return Guarded(adapter, default_scale(adapter.info.base)) if isinstance(adapter, Adapter) else adapter


class GrowthInhibitors:
    """Within the context, every call of a StableDiffusionPipeline erases the concepts from its images.

    ``concepts``: a text such as ``knife, wine:0.5`` or a sequence of Concept. ``scale``: the same w for all (-20 to 0),
    or ``adapter``: an Adapter, its file or another ScaleRule. ``strength``, ``start``, ``end``, ``concept_pass``,
    ``padding``: see Erasure.
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
        strength: float = 1.0,
        start: float = 0.0,
        end: float = 1.0,
        concept_pass: str = "fused",
        padding: float = 0.0,
        record: bool = False,
        trace: Trace | None = None,
        composition: Trace | None = None,
        composition_cross: float = CROSS_SHARE,
        composition_self: float = SELF_SHARE,
    ):
        for part in ("unet", "tokenizer", "encode_prompt", "scheduler"):
            if getattr(pipe, part, None) is None:
                raise UnsupportedModelError(
                    f"{type(pipe).__name__} has no {part}; growth inhibitors work on pipelines of Stable Diffusion "
                    f"with a UNet"
                )
        self.pipe = pipe
        self.concepts = parse_concepts(concepts) if isinstance(concepts, str) else tuple(concepts)
        for concept in self.concepts:
            check_token_count(concept.text, len(concept_tokens(pipe, concept.text)))
        self.rule = scale_rule(scale, adapter)
        self.options = {
            "strength": strength, "start": start, "end": end, "concept_pass": concept_pass, "padding": padding
        }  # fmt: skip
        self.record, self.trace, self.composition = record, trace, composition
        self._shares = (composition_cross, composition_self)
        self.recorder: AttentionRecorder | None = None
        self.erasure: Erasure | None = None
        self._stack: ExitStack | None = None
        self._attached: ExitStack | None = None
        self._images = 0
        self._facts: list[PromptFacts] = []
        self._call = 0
        self._check_options()

    def _check_options(self) -> None:
        """Let bad options raise now rather than within the pipeline's call."""
        width = 2 + max(len(concept_tokens(self.pipe, concept.text)) for concept in self.concepts)
        dummies = [
            EncodedConcept(concept, torch.zeros(width, 1), concept_tokens(self.pipe, concept.text))
            for concept in self.concepts
        ]
        with attach(self.pipe.unet, Erasure([Target(dummy, self.rule) for dummy in dummies], **self.options)):
            pass
        self._new_composition()

    def _new_composition(self) -> Composition | None:
        return None if self.composition is None else Composition(self.composition, *self._shares)

    @property
    def scales(self) -> list[tuple[torch.Tensor, ...]]:
        """The resolved w of the last call: per image, per concept a float32 [n] tensor."""
        if self.erasure is None:
            return []
        return [self.erasure.scales[image] for image in range(self._images) if image in self.erasure.scales]

    def __enter__(self) -> GrowthInhibitors:
        if self._stack is not None:
            raise OptionError("this GrowthInhibitors is in use already; make another one for nested use")
        self._stack = ExitStack()
        self._attached = self._stack.enter_context(ExitStack())
        handle = self.pipe.unet.register_forward_pre_hook(self._announce, with_kwargs=True)
        self._stack.callback(handle.remove)
        self._wrap_encode_prompt()
        return self

    def __exit__(self, kind, error, trace) -> None:
        self._stack.close()
        self._stack = None
        if kind is None and self.erasure is not None and self._call > 0:
            self.erasure.finish()

    def _wrap_encode_prompt(self) -> None:
        """Every pipeline of the family calls ``encode_prompt`` once, first: there a generation begins."""
        inner = self.pipe.encode_prompt
        own = self.pipe.__dict__.get("encode_prompt")

        def encode_prompt(*args, **kwargs):
            result = inner(*args, **kwargs)
            self._facts = self._facts_of(inner, args, kwargs, result[0])
            self._begin(result[0].shape[0], {key: kwargs[key] for key in _ENCODING_OPTIONS if key in kwargs})
            return result

        def restore() -> None:
            if own is None:
                del self.pipe.encode_prompt
            else:
                self.pipe.encode_prompt = own

        self.pipe.encode_prompt = encode_prompt
        self._stack.callback(restore)

    def _facts_of(self, encode: Any, args: tuple, kwargs: dict, states: torch.Tensor) -> list[PromptFacts]:
        """What is known of each image's prompt, from the call that encoded it to ``states`` [images, L, D].

        Where only embeddings are given nothing is, which counts as naming every concept.
        """
        given = inspect.signature(encode).bind_partial(*args, **kwargs).arguments
        texts = [given.get(name) for name in ("prompt", "prompt_2", "prompt_3")]
        lists = [[text] if isinstance(text, str) else list(text) for text in texts if text is not None]
        if not lists or given.get("prompt_embeds") is not None:
            return [UNKNOWN_PROMPT] * len(states)
        together = [" ".join(parts) for parts in zip(*lists, strict=True)]  # by prompt
        each = len(states) // len(together)
        return [facts for text in together for facts in [self._facts_of_text(text)] * each]

    def _facts_of_text(self, text: str) -> PromptFacts:
        """A diffusers prompt has no syntax for emphasis, but it can name a thing often."""

        def ids(of: str) -> list[int]:
            return self.pipe.tokenizer(of, truncation=False, verbose=False).input_ids[1:-1]

        tokens = ids(text)
        times = {
            concept.key: max(times_named(text, concept.text), times_in(tokens, ids(concept.text)))
            for concept in self.concepts
        }
        named = frozenset(key for key, found in times.items() if found)
        return PromptFacts(named, repeated_emphasis(max(times.values(), default=1)))

    @property
    def notes(self) -> list[str]:
        """What is to be known of the adapter and the last call: where its answer was not enough, and why."""
        found = []
        if isinstance(self.rule, Guarded):
            known = self.rule.adapter
            found = [
                f"the adapter was fitted for {', '.join(known.info.concepts)}, not for {concept.text!r}"
                for concept in self.concepts
                if not known.is_for(concept.key)
            ]
            if known.range is None:
                found.append(
                    "the adapter does not say what it was fitted on, so it cannot be told where it knows nothing"
                )
        return found + self._doubts()

    def _doubts(self) -> list[str]:
        if self.erasure is None:
            return []
        return [
            f"image {image + 1}, {target.encoded.concept.text!r}: the fixed scale took the place of the adapter's "
            f"weaker answer: {doubt}"
            for image in range(self._images)
            for target, doubt in zip(self.erasure.targets, self.erasure.doubts(image), strict=True)
            if doubt
        ]

    @torch.no_grad()
    def _encode(self, concept: Concept, options: dict) -> EncodedConcept:
        """Through the class's own method: this object's and others' wrappers shall not take it for a generation."""
        encoded = type(self.pipe).encode_prompt(
            self.pipe,
            concept.text,
            device=self.pipe._execution_device,
            num_images_per_prompt=1,
            do_classifier_free_guidance=False,
            **options,
        )
        states = encoded[0][0]  # [77, D]
        return EncodedConcept(concept, states, concept_tokens(self.pipe, concept.text))

    def _begin(self, images: int, options: dict) -> None:
        self._attached.close()
        self.recorder = AttentionRecorder() if self.record else None
        targets = [Target(self._encode(concept, options), self.rule) for concept in self.concepts]
        self.erasure = Erasure(
            targets, recorder=self.recorder, trace=self.trace, composition=self._new_composition(), **self.options
        )
        self.erasure.facts = dict(enumerate(self._facts))
        self._images, self._call = images, 0
        self._attached.enter_context(attach(self.pipe.unet, self.erasure))

    def _announce(self, unet: torch.nn.Module, args: tuple, kwargs: dict) -> None:
        if is_inner_call():
            return
        if self.erasure is None or self._call >= self.pipe.num_timesteps:
            raise ErasureError(
                "the UNet was called outside the steps of the pipeline that growth inhibitors watch; make one "
                "GrowthInhibitors for each pipeline that shares the UNet"
            )
        batch = batch_size(args, kwargs)
        guided = self.pipe.do_classifier_free_guidance
        if batch != self._images * (2 if guided else 1):
            self.erasure.invalidate()
            raise ErasureError(
                f"the UNet was called with {batch} rows for {self._images} images "
                f"{'with' if guided else 'without'} guidance; growth inhibitors do not know this pipeline's batches"
            )
        unconditional = [None] * (batch - self._images)
        self.erasure.begin([*unconditional, *range(self._images)], self._call / self.pipe.num_timesteps)
        self._call += 1
