"""The sampling of one batch: erasures on whatever model samples, rows for every denoiser call."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any

import torch
from modules import errors, shared

from lib_gie.core.erasure import Erasure
from lib_gie.core.scales.scale_rules import UNKNOWN_PROMPT
from lib_gie.errors import ErasureError
from lib_gie.handles import take_off
from lib_gie.hosts.erased_sampling import ErasedSampling
from lib_gie.hosts.webui.host.chosen import HOST
from lib_gie.hosts.webui.host.contract import Denoiser, Processing, StepParams
from lib_gie.hosts.webui.host.model import clip_skip, find_unet
from lib_gie.hosts.webui.host.other_extensions import around_calls, makes_tiles
from lib_gie.hosts.webui.host.pictures import TextCalls
from lib_gie.hosts.webui.request.parsing import TITLE
from lib_gie.hosts.webui.request.plan import PlanInBatch
from lib_gie.hosts.webui.request.prompts import reading_of

from .loaded_model import AnswersByState, LoadedModel
from .pass_prompts import PassPrompts
from .plain_state import why_not_plain
from .reading_text import ReadingText, unread


def raise_in_next_call(error: BaseException, denoiser: Any = None) -> Callable[[], None]:
    """Have the loaded model's next UNet call raise ``error``, or the next call of what a denoiser calls.

    Return what undoes that; the call does so as well.
    """
    taken = ExitStack()

    def raise_failure(module: torch.nn.Module, args: Any) -> None:
        taken.close()
        raise error

    for module in (find_unet(shared.sd_model), getattr(denoiser, "inner_model", None)):
        if isinstance(module, torch.nn.Module):
            taken.callback(take_off, module, module.register_forward_pre_hook(raise_failure))
    return taken.close


class BatchSampling:
    """The sampling of a batch of ``p`` from which ``plans`` erase, or which they watch.

    ``answers``: what was read of the job's prompts before.
    """

    def __init__(self, p: Processing, plans: Sequence[PlanInBatch], answers: AnswersByState | None = None):
        self.p, self.plans = p, list(plans)
        self.is_late = False  # whether a denoiser call began it: then nothing ends it
        self._answers = answers or AnswersByState()
        self.failure: BaseException | None = None
        self._done: set[int] = set()  # plans that have erased from at least one step
        self._model = LoadedModel(p)
        self._sampling = ErasedSampling(self._model)  # by the model and for the pass that run now
        self._erasures: list[tuple[int, PlanInBatch, Erasure]] = []  # of that pass, with their plans' numbers
        self._attached = ExitStack()  # all hooks
        self._is_attached = False  # if not, the next denoiser call puts the hooks on
        self._denoiser: Denoiser | None = None
        self._tiled = False
        self._state: tuple[Any, ...] = ()  # what the encodings were made for, and the scales read with
        self._clip_skip: Any = None  # at which the concepts were encoded
        self._unlike = ""  # why the model's state is not the one that calibrations are made in
        concepts = [concept for plan in plans for concept in plan.plan.request.concepts]
        self._prompts = PassPrompts(p, concepts)
        self._text = ReadingText()

    @property
    def missed(self) -> list[PlanInBatch]:
        """The plans that have erased from no step yet."""
        return [plan for number, plan in enumerate(self.plans) if number not in self._done]

    def check(self) -> None:
        """Raise what was refused, whether or not somebody swallowed it."""
        if self.failure is not None:
            raise self.failure
        for plan in self.plans:
            plan.check()

    # -- hooks ------------------------------------------------

    def attach(self) -> None:
        """Put hooks on the model and for the pass that run now, with concepts encoded anew."""
        self._attached.close()
        self._clip_skip = clip_skip()
        before, self._state = self._state, self._model.state()
        self._is_attached, self._tiled = True, False
        sampling = ErasedSampling(self._model)  # renewed plans check the one before
        self._attached.callback(sampling.close)
        self._erasures = []
        texts, is_enforced = self._texts(), any(plan.plan.enforced for plan in self.plans)
        self._unlike = why_not_plain(self.p, self._model.unet) if is_enforced else ""
        as_text = None if texts is None else texts.of
        for number, plan in enumerate(self.plans):
            if plan.applies(self.p):
                answers = self._answers.of(self._state)
                erasure = plan.renew(self._model, sampling.ledger, before != self._state, answers, as_text)
                sampling.attach(erasure)
                self._erasures.append((number, plan, erasure))
        self._sampling = sampling

    def _texts(self) -> TextCalls | None:
        """Return what makes calls for a prompt's text alone; None where that fails, and no prompt can be read so."""
        sizes = {size for plan in self.plans for size in plan.plan.sizes}
        try:
            return self._answers.texts(self._state, sizes)
        except Exception as error:  # whatever it is, concepts are erased in full
            errors.report(f"{TITLE}: prompts cannot be read without a picture ({error})", exc_info=True)
            return None

    def detach(self) -> None:
        """Take all hooks off; the next denoiser call puts them on again."""
        self._attached.close()
        self._is_attached = False
        self._text.end()

    # -- a step ------------------------------------------------

    def on_step(self, params: StepParams) -> None:
        """Announce the rows of a denoiser call. The WebUI swallows errors here: they are raised in the UNet call."""
        if self.failure is not None:
            return
        try:
            self._announce(params)
        except BaseException as error:  # whatever it is, the image must not come out
            self.fail(error)

    def fail(self, error: BaseException) -> None:
        """Take the hooks off, and have the next UNet call raise this error."""
        self.failure = error
        self._attached.close()
        self._attached.callback(raise_in_next_call(error))

    def _announce(self, params: StepParams) -> None:
        denoiser = params.denoiser
        is_current = self._is_attached and self._model.state() == self._state
        if not is_current or self._denoiser not in (None, denoiser):
            self.attach()
            HOST.bring_unet_back(shared.sd_model, params.x)
        self._denoiser = denoiser
        rows = HOST.step_rows(self.p, params)
        unknown = dict.fromkeys((name for name in rows.names if name is not None), UNKNOWN_PROMPT)
        facts = unknown | self._prompts.facts(rows.names, reading_of(denoiser), self._clip_skip, self._unlike)
        is_enforced = any(plan.plan.enforced for plan in self.plans)
        size, guidance = tuple(params.x.shape[2:]), HOST.guidance(params) if is_enforced else 0.0  # else nobody asks
        self._sampling.begin_step(rows, min(1.0, denoiser.step / max(1, denoiser.total_steps)))
        for number, plan, erasure in self._erasures:
            factor = {plain: plan.plan.factor(size, guidance, plain) for plain in (True, False)}
            erasure.facts.update({row: replace(one, factor=factor[not one.unlike]) for row, one in facts.items()})
            plan.steps += 1
            if erasure.injects or plan.is_unerased:
                self._done.add(number)
        self._text.begin_step(unread((erasure for *_, erasure in self._erasures), rows.names))
        if not self._tiled and makes_tiles(denoiser, shared.sd_model):
            self._watch_tiles(denoiser)

    # -- tiles ------------------------------------------------

    def _watch_tiles(self, denoiser: Any) -> None:
        if any(plan.plan.request.show_attention and not plan.is_unerased for plan in self.plans):
            raise ErasureError(
                "the image is made in tiles by Tiled Diffusion, so where the attention was cannot be shown; untick "
                "Show attention"
            )
        self._tiled = True
        self._attached.enter_context(around_calls(denoiser.inner_model, self._tiles))

    @contextmanager
    def _tiles(self, rows: int) -> Iterator[None]:
        """Stand around a call for ``rows`` rows, which Tiled Diffusion divides into tiles."""
        with self._sampling.ledger.tiles(rows):
            yield
            if shared.state.interrupted:  # then it stops between two tiles
                self._sampling.ledger.invalidate()
