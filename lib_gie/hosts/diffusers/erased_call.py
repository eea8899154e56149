"""One call of a pipeline: which rows are the prompts', how many steps there are, and whether all were erased from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext
from typing import Any

import torch

from lib_gie.core.call import Args, Kwargs, UNetCall, context_in
from lib_gie.core.concepts import Concept
from lib_gie.core.encoding import EncodedConcept
from lib_gie.core.erasure import Erasure, Target
from lib_gie.core.scales.calibrated import CALIBRATED
from lib_gie.core.scales.scale_rules import Guarded
from lib_gie.core.session import is_inner_call
from lib_gie.errors import ErasureError
from lib_gie.hosts.erased_sampling import ErasedSampling, RowsInOrder

from .classes import Layout
from .compiled import is_compiled, uncompiled
from .model import plain_attention
from .prompt_rows import PromptRows, Wish, is_equal
from .text_calls import TextCalls
from .texts import ENCODING_OPTIONS, encode_concept, prompt_facts


def called_outside() -> ErasureError:
    """Make the error of a UNet call that belongs to no step of the pipeline that is watched."""
    return ErasureError(
        "the UNet was called outside the steps of the pipeline that growth inhibitors watch; make one GrowthInhibitors "
        "for each pipeline that shares the UNet"
    )


def _otherwise_encoded(wish: Wish, left_out: int) -> list[str]:
    """Say which calibrations were made without the clip skip of a call's prompts, by which other noise is predicted.

    ``left_out``: layers of the text encoder.
    """
    rules = [rule for rule in wish.rules if isinstance(rule, Guarded) and rule.adapter.kind == CALIBRATED]
    names = [name for rule in rules for name in rule.adapter.info.concepts if left_out]
    return [
        f"{name!r} was calibrated with all of the text encoder's layers, and this call leaves out the last {left_out} "
        f"(clip_skip): where it is only implied it may stay; take a fixed scale"
        for name in names
    ]


class PipelineModel:
    """The model of a pipeline as one call samples with it: see ``SamplingHost``.

    ``options``: the arguments by name that say how the call's prompts were encoded (clip skip, LoRA scale).
    """

    def __init__(self, pipe: Any, layout: Layout, options: Mapping[str, Any]):
        self.unet: torch.nn.Module = pipe.unet
        self._pipe, self._layout, self._options = pipe, layout, options
        self._is_compiled = is_compiled(self.unet)
        self._processors = dict(pipe.unet.attn_processors) if layout.perturbs else {}

    def encode(self, concept: Concept) -> EncodedConcept:
        """Encode a concept alone, states [77, D], as the prompts were."""
        return encode_concept(self._pipe, self._layout, concept, self._options)

    @contextmanager
    def undisturbed(self) -> Iterator[None]:
        """Make a context in which PAG perturbs nothing. Otherwise UNet calls of diffusers leave nothing behind.

        Nothing runs compiled in it: such a call has other rows or another size, and would be compiled for by itself.
        """
        with ExitStack() as stack:
            stack.enter_context(uncompiled() if self._is_compiled else nullcontext())
            if self._layout.perturbs:
                stack.enter_context(plain_attention(self.unet, self._processors))
            yield


class ErasedCall:
    """One call of a pipeline, from where it encodes its prompts to its end.

    ``arguments``: those of the call, by name. ``attached``: holds what is undone at the end.
    """

    def __init__(self, pipe: Any, wish: Wish, arguments: Mapping[str, Any], attached: ExitStack):
        self.pipe, self.wish = pipe, wish
        self.erasure: Erasure | None = None
        self.images = 0
        self.steps_made = 0
        self.steps_erased = 0
        self._arguments, self._attached = arguments, attached
        self._left_out = 0  # layers of the text encoder
        self._steps = 0  # that this call makes, once they are known
        self._sampling: ErasedSampling | None = None  # once the prompts are encoded
        self._rows: PromptRows | None = None  # once the prompts are encoded
        self._refused: ErasureError | None = None  # what a call of the UNet was refused with

    @property
    def scales(self) -> list[tuple[torch.Tensor, ...]]:
        """The resolved w: per image, per concept a float32 [n] tensor."""
        found = {} if self.erasure is None else self.erasure.scales
        return [found[image] for image in range(self.images) if image in found]

    @property
    def replacement_notes(self) -> list[str]:
        """Where an adapter's answer was not enough, or a calibration was made for other prompts' states, and why."""
        if self.erasure is None:
            return []
        return _otherwise_encoded(self.wish, self._left_out) + [
            f"image {image + 1}, {target.encoded.concept.text!r}: {replaced}"
            for image in range(self.images)
            for target, replaced in zip(self.erasure.targets, self.erasure.replacements(image), strict=True)
            if replaced
        ]

    # -- its beginning ------------------------------------------------

    def begin(self, encoded: Any, given: Mapping[str, Any], **watching: Any) -> None:
        """Begin from prompts that were ``encoded``: (prompt, negative, ...) or all groups in one.

        ``given``: the arguments by name of the call that encoded them. ``watching``: recorder, trace or composition.
        """
        options = {key: given[key] for key in ENCODING_OPTIONS if key in given}
        model = PipelineModel(self.pipe, self.wish.layout, options)
        self._rows = PromptRows(self.pipe, self.wish, encoded)
        self.images = self._rows.images
        self._sampling = ErasedSampling(model)
        targets, ledger = self._targets(model, options), self._sampling.ledger
        self.erasure = Erasure(targets, self.wish.settings, ledger=ledger, as_text=TextCalls(self.pipe).of, **watching)
        self._attached.callback(self._sampling.close)
        first = self._sampling.attach(self.erasure).layers[0].module
        self._attached.callback(first.register_forward_pre_hook(self._check_layer, with_kwargs=True).remove)
        self.erasure.facts.update(enumerate(prompt_facts(self.pipe, self.wish.concepts, given, self.images)))

    def _targets(self, model: PipelineModel, options: Mapping[str, Any]) -> list[Target]:
        # so diffusers counts; the WebUI counts the last one that is used
        self._left_out = layers = options.get("clip_skip") or 0
        rules = [rule.at_clip_skip(layers + 1) if isinstance(rule, Guarded) else rule for rule in self.wish.rules]
        pairs = zip(self.wish.concepts, rules, strict=True)
        return [Target(model.encode(concept), rule) for concept, rule in pairs]

    # -- one step ------------------------------------------------

    def announce(self, call: UNetCall) -> None:
        """Announce the rows of a UNet call. Raises ErasureError where they are not those of the pipeline's steps."""
        try:
            self._announce(call)
        except ErasureError as error:
            self._refused = self._refused or error
            raise

    def _announce(self, call: UNetCall) -> None:
        if self.erasure is None or self._rows is None or self._sampling is None:
            raise ErasureError(
                f"{type(self.pipe).__name__} called its UNet without {self.wish.layout.encoder}, so growth inhibitors "
                f"do not know which rows are the prompt's; use a pipeline of diffusers' own"
            )
        if self.steps_made == 0:
            self._steps = self._count_steps()
        if self.steps_made >= self._steps:
            raise called_outside()
        try:
            names = self._rows.names(call, is_first=self.steps_made == 0)
        except ErasureError:
            self._sampling.ledger.invalidate()
            raise
        self._sampling.begin_step(RowsInOrder(names), self.steps_made / self._steps)
        self.steps_made += 1
        self.steps_erased += self.erasure.injects

    def _check_layer(self, layer: torch.nn.Module, args: Args, kwargs: Kwargs) -> None:
        """Check that what the UNet was given reaches its layers: a wrapped forward may change the rows' order."""
        given = None if self._rows is None else self._rows.given  # [rows, L, D]
        if is_inner_call() or given is None:
            return
        context = context_in(args, kwargs)  # [rows, L, D]
        if context is not given and not is_equal(given, context):
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
        if not (self.wish.layout.counts_all and isinstance(end, float) and 0 < end < 1):
            return int(steps)
        trained = scheduler.config.num_train_timesteps
        last = round(trained - end * trained)  # as these pipelines have it
        return int(steps - sum(step < last for step in scheduler.timesteps.tolist()))

    # -- its end ------------------------------------------------

    def check_end(self) -> None:
        """Raise ErasureError where the call that has ended may have made images that were not erased from."""
        if self._refused is not None:
            raise self._refused  # something has caught it on the way, and went on
        if self.erasure is None or self._sampling is None or self.steps_made == 0:
            raise ErasureError(
                f"{type(self.pipe).__name__} made its images without calling the UNet that it had at the beginning, so "
                f"nothing was erased; set pipe.unet before the pipeline is called, and do not replace it on the way"
            )
        self._sampling.finish()
        if getattr(self.pipe, "_interrupt", False):
            self._check_injected(self.erasure, "the pipeline was interrupted before the sampling came to start")
            return
        if self.steps_made != self._steps:
            raise ErasureError(
                f"{self.steps_made} of the pipeline's {self._steps} steps called the UNet that it had at the "
                f"beginning, so the image may not be erased; do not replace pipe.unet on the way, and switch off what "
                f"skips its calls"
            )
        self._check_injected(self.erasure, f"none of the pipeline's {self.steps_made} steps lies between start and end")

    def _check_injected(self, erasure: Erasure, why: str) -> None:
        wanted = any(bool((scale != 0).any()) for scales in erasure.scales.values() for scale in scales)
        if wanted and not self.steps_erased:
            start, end = self.wish.settings.start, self.wish.settings.end
            raise ErasureError(
                f"nothing was erased: {why} ({start:g} and {end:g}); let more steps be made, or widen the range"
            )

    def forget(self) -> None:
        """Forget what only a running call needs."""
        self._rows, self._arguments = None, {}
