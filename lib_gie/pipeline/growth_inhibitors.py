"""``with GrowthInhibitors(pipe, "knife", scale=-3): pipe(prompt)``."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import torch

from ..adapter import Adapter, load_adapter
from ..attention import find_cross_attention
from ..call import UNetCall, context_in
from ..checks import quoted
from ..composition import Composition, Follower, Trace
from ..concepts import Concept, parse_concepts
from ..demo.fixed_scale import default_scale
from ..encoding import EncodedConcept, check_length, check_token_count
from ..erasure import Erasure, Target
from ..errors import ConceptError, ErasureError, OptionError
from ..handles import take_off
from ..named import repeated_emphasis, times_in, times_named
from ..options import CROSS_SHARE, DEFAULT_SCALE, SELF_SHARE, ErasureSettings
from ..scale import UNKNOWN_PROMPT, FixedScale, Guarded, PromptFacts, ScaleRule
from ..session import attach, check_rules, is_inner_call
from ..statistics import AttentionRecorder
from .calls import watch_calls
from .classes import NEGATIVE, PROMPT, layout_of
from .model import check_model, eager, plain_attention, tokenizer_of

_ENCODING_OPTIONS = ("clip_skip", "lora_scale")

_generating: list[GrowthInhibitors] = []
"""Those whose pipelines are being called, innermost last."""


def concept_tokens(pipe: Any, text: str) -> list[str]:
    """Return the concept's own tokens, as the pipeline's tokenizer splits it, without BOS and EOS.

    A textual inversion counts with all of its vectors, as ``encode_prompt`` takes them.
    """
    check_length(text)
    tokenizer = tokenizer_of(pipe)
    if hasattr(pipe, "maybe_convert_prompt"):
        text = pipe.maybe_convert_prompt(text, tokenizer)
    ids = tokenizer(text, truncation=False, verbose=False).input_ids[1:-1]
    return tokenizer.convert_ids_to_tokens(ids)


def scale_rule(scale: float | None, adapter: ScaleRule | Path | str | None) -> ScaleRule:
    """Make the rule for a fixed scale, an adapter (its file, or any ScaleRule), or neither: DEFAULT_SCALE.

    An adapter is guarded: where it cannot know, w is at least its model family's fixed scale (see ``Guarded``).
    """
    if scale is not None and adapter is not None:
        raise OptionError("both a scale and an adapter are given; give one of them, or strength to vary an adapter")
    if adapter is None:
        return FixedScale(DEFAULT_SCALE if scale is None else scale)
    if isinstance(adapter, (Path, str)):
        adapter = load_adapter(adapter)
    return Guarded(adapter, default_scale(adapter.info.base)) if isinstance(adapter, Adapter) else adapter


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

    ``pipe``: of one of the classes in ``classes.LAYOUTS``, or of one that inherits from them.
    ``concepts``: a text such as ``knife, wine:0.5`` or a sequence of Concept. ``scale``: the same w for all (-20 to 0),
    or ``adapter``: an Adapter, its file or another ScaleRule. ``strength``, ``start``, ``end``, ``concept_pass``,
    ``padding``: see ErasureSettings. Start and end are fractions of the steps that the call makes itself (img2img's
    strength, SDXL's ``denoising_end``).
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
        record: bool = False,
        trace: Trace | None = None,
        composition: Trace | None = None,
        composition_cross: float = CROSS_SHARE,
        composition_self: float = SELF_SHARE,
    ):
        self._layout, self._rows_known = layout_of(pipe)
        check_model(pipe, self._layout)
        self.pipe = pipe
        self.concepts = _concepts(concepts)
        for concept in self.concepts:
            check_token_count(concept.text, len(concept_tokens(pipe, concept.text)))
        self.rule = scale_rule(scale, adapter)
        self.settings = ErasureSettings(strength, start, end, concept_pass, padding)
        self.record, self.trace, self.composition = record, trace, composition
        self._shares = (composition_cross, composition_self)
        self.recorder: AttentionRecorder | None = None
        self.erasure: Erasure | None = None
        self._stack: ExitStack | None = None
        self._attached: ExitStack | None = None  # while the pipeline is called
        self._watched: torch.nn.Module | None = None  # the UNet whose calls are counted
        self._forget_watch: Callable[[], None] = lambda: None
        self._contexts: dict[str, torch.Tensor] = {}  # what the prompts were encoded to: by group [images, L, D]
        self._images = 0
        self._call = 0
        self._injected = 0
        self._steps = 0  # that this call makes, once they are known
        self._arguments: dict[str, Any] = {}  # of this call, by name
        self._refused: ErasureError | None = None  # what a call of the UNet was refused with
        self._checked: tuple[torch.Tensor, int] | None = None  # the context that was looked at last, and its version
        self._check_options()

    def _check_options(self) -> None:
        """Let bad options raise now rather than within the pipeline's call."""
        if self._layout.perturbs and (self.trace is not None or self.composition is not None):
            raise OptionError(
                f"{type(self.pipe).__name__} perturbs the attention that keeps a composition; do not keep it, or use "
                f"the pipeline without PAG"
            )
        layers = find_cross_attention(self.pipe.unet)
        check_rules(layers, [self.rule])
        if self._new_composition() is not None:
            Follower(self.pipe.unet, layers, lambda: False)

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
        with ExitStack() as stack:
            stack.callback(self._unwatch)
            self._watch()
            stack.callback(self._wrap_encoder())
            stack.enter_context(watch_calls(self.pipe, self._generation))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, kind, error, trace) -> None:
        self._stack.close()
        self._stack = None

    def _watch(self) -> None:
        """Count the calls of the UNet that the pipeline has now."""
        if self._watched is not self.pipe.unet:
            self._unwatch()
            self._watched = self.pipe.unet
            handle = self._watched.register_forward_pre_hook(self._announce, with_kwargs=True)
            self._forget_watch = partial(take_off, self._watched, handle)

    def _unwatch(self) -> None:
        self._forget_watch()
        self._watched, self._forget_watch = None, lambda: None

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
        self._watch()
        self.erasure, self._images, self._call, self._injected = None, 0, 0, 0
        self._steps, self._refused, self._checked, self._arguments = 0, None, None, arguments
        _generating.append(self)
        try:
            with ExitStack() as self._attached:
                self._attached.enter_context(eager(self.pipe.unet))
                yield
                self._check_end()
        finally:
            _generating.remove(self)
            self._attached = None
            self._contexts, self._arguments, self._checked = {}, {}, None

    def _check_end(self) -> None:
        """Raise ErasureError where the call that has ended may have made images that were not erased from."""
        if self._refused is not None:
            raise self._refused  # something has caught it on the way, and went on
        if self.erasure is None or self._call == 0:
            raise ErasureError(
                f"{type(self.pipe).__name__} made its images without calling the UNet that it had at the beginning, so "
                f"nothing was erased; set pipe.unet before the pipeline is called, and do not replace it on the way"
            )
        self.erasure.finish()
        if getattr(self.pipe, "_interrupt", False):
            self._check_injected("the pipeline was interrupted before the sampling came to start")
            return
        if self._call != self._steps:
            raise ErasureError(
                f"{self._call} of the pipeline's {self._steps} steps called the UNet that it had at the beginning, so "
                f"the image may not be erased; do not replace pipe.unet on the way, and switch off what skips its calls"
            )
        self._check_injected(f"none of the pipeline's {self._call} steps lies between start and end")

    def _check_injected(self, why: str) -> None:
        wanted = any(bool((scale != 0).any()) for scales in self.erasure.scales.values() for scale in scales)
        if wanted and not self._injected:
            raise ErasureError(
                f"nothing was erased: {why} ({self.settings.start:g} and {self.settings.end:g}); let more steps be "
                f"made, or widen the range"
            )

    # -- where a generation begins ------------------------------------------------

    def _wrap_encoder(self) -> Callable[[], None]:
        """Begin a generation where the pipeline encodes its prompts: then images and contexts are known.

        Every pipeline of the family encodes them once, and first. Returns what takes the wrapper away again.
        """
        name = self._layout.encoder
        inner, own = getattr(self.pipe, name), self.pipe.__dict__.get(name)
        signature = inspect.signature(inner)

        def encode(*args, **kwargs):
            result = inner(*args, **kwargs)
            if self._attached is not None and self.erasure is None:  # callbacks may encode others on the way
                given = signature.bind_partial(*args, **kwargs).arguments
                self._begin(result, {key: given[key] for key in _ENCODING_OPTIONS if key in given})
                self.erasure.facts.update(enumerate(self._facts_of(given)))
            return result

        def restore() -> None:
            if own is None:
                delattr(self.pipe, name)
            else:
                setattr(self.pipe, name, own)

        setattr(self.pipe, name, encode)
        return restore

    def _facts_of(self, given: dict[str, Any]) -> list[PromptFacts]:
        """Return what is known of each image's prompt; ``given``: the arguments by name of the call that encoded it.

        Where only embeddings are given nothing is known, which counts as naming every concept.
        """
        texts = [given.get(name) for name in ("prompt", "prompt_2", "prompt_3")]
        lists = [[text] if isinstance(text, str) else list(text) for text in texts if text is not None]
        if not lists or given.get("prompt_embeds") is not None:
            return [UNKNOWN_PROMPT] * self._images
        together = [" ".join(parts) for parts in zip(*lists, strict=True)]  # by prompt
        each = self._images // len(together)
        return [facts for text in together for facts in [self._facts_of_text(text)] * each]

    def _facts_of_text(self, text: str) -> PromptFacts:
        """Read a diffusers prompt: it has no syntax for emphasis, but it can name a thing often."""

        def ids(of: str) -> list[int]:
            return tokenizer_of(self.pipe)(of, truncation=False, verbose=False).input_ids[1:-1]

        tokens = ids(text)
        times = {
            concept.key: max(times_named(text, concept.text), times_in(tokens, ids(concept.text)))
            for concept in self.concepts
        }
        named = frozenset(key for key, found in times.items() if found)
        return PromptFacts(named, repeated_emphasis(max(times.values(), default=1)))

    @property
    def notes(self) -> list[str]:
        """What a user should know of the adapter and the last call: where its answer was not enough, and why."""
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
        """Encode through the class's own method: no wrapper shall take it for the beginning of a generation."""
        encode = getattr(type(self.pipe), self._layout.encoder)
        given = {"num_images_per_prompt": 1, "do_classifier_free_guidance": False, **options}
        encoded = encode(self.pipe, concept.text, device=self.pipe._execution_device, **given)
        states = (encoded if isinstance(encoded, torch.Tensor) else encoded[0])[0]  # [77, D]
        return EncodedConcept(concept, states, concept_tokens(self.pipe, concept.text))

    def _begin(self, encoded: Any, options: dict) -> None:
        """Begin a generation from prompts that were ``encoded``: (prompt, negative, ...) or all groups in one."""
        if isinstance(encoded, torch.Tensor):
            groups = self._layout.guided if self.pipe.do_classifier_free_guidance else (PROMPT,)
            contexts = dict(zip(groups, encoded.chunk(len(groups)), strict=True))
        else:
            contexts = {PROMPT: encoded[0], NEGATIVE: encoded[1]}
        self._contexts = {group: context for group, context in contexts.items() if context is not None}
        self._images = len(self._contexts[PROMPT])
        self.recorder = AttentionRecorder() if self.record else None
        rule = self.rule
        if isinstance(rule, Guarded):
            left_out = options.get("clip_skip") or 0  # so diffusers counts; the WebUI counts the last one that is used
            rule = rule.at_clip_skip(left_out + 1)
        targets = [Target(self._encode(concept, options), rule) for concept in self.concepts]
        self.erasure = Erasure(
            targets, self.settings, recorder=self.recorder, trace=self.trace, composition=self._new_composition()
        )
        undisturbed = nullcontext
        if self._layout.perturbs:
            undisturbed = partial(plain_attention, self.pipe.unet, dict(self.pipe.unet.attn_processors))
        attachment = self._attached.enter_context(attach(self.pipe.unet, self.erasure, undisturbed))
        first = attachment.layers[0].module
        self._attached.callback(first.register_forward_pre_hook(self._check_layer, with_kwargs=True).remove)

    # -- one step ------------------------------------------------

    def _announce(self, unet: torch.nn.Module, args: tuple, kwargs: dict) -> None:
        if is_inner_call():
            return
        if self._attached is None and any(other.pipe.unet is unet for other in _generating):
            return  # the call of a pipeline that shares the UNet and has inhibitors of its own
        try:
            self._announce_step(args, kwargs)
        except ErasureError as error:
            self._refused = self._refused or error
            raise

    def _announce_step(self, args: tuple, kwargs: dict) -> None:
        if self._attached is not None and self.erasure is None:
            raise ErasureError(
                f"{type(self.pipe).__name__} called its UNet without {self._layout.encoder}, so growth inhibitors do "
                f"not know which rows are the prompt's; use a pipeline of diffusers' own"
            )
        if self._attached is not None and self._call == 0:
            self._steps = self._count_steps()
        if self._attached is None or self._call >= self._steps:
            raise ErasureError(
                "the UNet was called outside the steps of the pipeline that growth inhibitors watch; make one "
                "GrowthInhibitors for each pipeline that shares the UNet"
            )
        call = UNetCall(args, kwargs)
        context = call.context  # [rows, L, D]
        groups = self._groups(call.batch)
        self._check_contents(groups, context)
        rows = [image if group == PROMPT else None for group in groups for image in range(self._images)]
        self.erasure.begin(rows, self._call / self._steps)
        self._call += 1
        self._injected += self.erasure.injects

    def _check_layer(self, layer: torch.nn.Module, args: tuple, kwargs: dict) -> None:
        """Check that what the UNet was given reaches its layers: a wrapped forward may change the rows' order."""
        if is_inner_call() or self._checked is None:
            return
        given, context = self._checked[0], context_in(args, kwargs)  # [rows, L, D] each
        if context is not given and not _is_equal(given, context):
            self._refused = self._refused or ErasureError(
                "the UNet's layers were given other rows than the UNet was called with, so it is unknown which to "
                "erase from; something wraps the UNet's forward: switch it off"
            )
            raise self._refused

    def _count_steps(self) -> int:
        """Count the steps that this call of the pipeline makes; one step is one call of the UNet."""
        steps, scheduler = getattr(self.pipe, "num_timesteps", None), self.pipe.scheduler
        steps = len(scheduler.timesteps) if steps is None else steps
        end = self._arguments.get("denoising_end")
        if not (self._layout.counts_all and isinstance(end, float) and 0 < end < 1):
            return steps
        trained = scheduler.config.num_train_timesteps
        last = round(trained - end * trained)  # as these pipelines have it
        return steps - sum(step < last for step in scheduler.timesteps.tolist())

    def _groups(self, batch: int) -> tuple[str, ...]:
        """Return the groups of rows in a UNet call. Raises ErasureError where they do not fit the guidance."""
        perturbed = self._layout.perturbs and self.pipe.do_perturbed_attention_guidance
        guided = getattr(self.pipe, "do_classifier_free_guidance", None)
        tried = (True, False) if guided is None else (guided,)  # some keep it to themselves; the rows show it
        for choice in tried:
            groups = self._layout.groups(choice, perturbed)
            if batch == len(groups) * self._images:
                return groups
        self.erasure.invalidate()
        raise ErasureError(
            f"the UNet was called with {batch} rows for {self._images} images "
            f"{'with' if tried[0] else 'without'} guidance; growth inhibitors do not know this pipeline's batches"
        )

    def _check_contents(self, groups: Sequence[str], context: torch.Tensor) -> None:
        """Raise ErasureError where a group's rows of ``context`` [rows, L, D] are not what its prompts are.

        In a later step a callback may have brought other prompts in; then they must not be those of another group.
        """
        version = -1 if context.is_inference() else context._version
        if self._checked is not None and self._checked[0] is context and self._checked[1] == version != -1:
            return  # the same memory, and nothing has written to it since
        for group, rows in zip(groups, context.chunk(len(groups)), strict=True):
            same = {name for name, expected in self._contexts.items() if _is_equal(expected, rows)}
            wrong = group not in same and (same or self._call == 0 or not self._rows_known)
            if wrong:
                self.erasure.invalidate()
                raise ErasureError(
                    f"the UNet was called with other rows than {type(self.pipe).__name__} encoded where the {group} "
                    f"ones belong, so it is unknown which to erase from; something changes the prompts between "
                    f"{self._layout.encoder} and the UNet: switch it off, or give its result as prompt_embeds"
                )
        self._checked = context, version


def _is_equal(expected: torch.Tensor, rows: torch.Tensor) -> bool:
    return expected.shape == rows.shape and torch.equal(expected.to(rows), rows)
