"""The sampling of one batch: hooks on whatever model samples, rows for every denoiser call."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from modules import shared

from lib_gie.checks import quoted
from lib_gie.core.call import UNetCall
from lib_gie.core.concepts import Concept
from lib_gie.core.rows import Identities, Name, RowLedger
from lib_gie.core.scales.rules import PromptFacts
from lib_gie.core.session import attach, is_inner_call
from lib_gie.errors import ErasureError, told_to
from lib_gie.handles import take_off
from lib_gie.hosts.webui.host import extensions, forge
from lib_gie.hosts.webui.host.model import find_unet, unet_of
from lib_gie.hosts.webui.request.plan import PlanInBatch
from lib_gie.hosts.webui.request.prompts import Mode, PromptReading, facts_of, reading_of

from .step_rows import conditional_rows


def active_hypernetworks() -> tuple:
    """Return the hypernetworks that the WebUI sends prompts through now, with their strengths."""
    active = getattr(shared, "loaded_hypernetworks", None) or ()
    return tuple((id(one), getattr(one, "name", None), *_strengths(one)) for one in active)


def _strengths(hypernetwork: Any) -> tuple:
    """Return a hypernetwork's strength in each layer; the WebUI sets them whenever a prompt asks for one."""
    layers = getattr(hypernetwork, "layers", None) or {}
    return tuple(getattr(layer, "multiplier", None) for pair in layers.values() for layer in pair)


def _active_loras() -> tuple:
    """Return the LoRAs that the WebUI's own extension puts into the weights now, with their strengths."""
    active = getattr(sys.modules.get("networks"), "loaded_networks", None) or ()
    strengths = "name", "te_multiplier", "unet_multiplier", "dyn_dim"
    return tuple(tuple(getattr(one, part, None) for part in strengths) for one in active)


class PassPrompts:
    """What the prompts of the pass that runs say of ``concepts``."""

    def __init__(self, p: Any, concepts: Sequence[Concept]):
        self._p, self._concepts = p, concepts
        self._made_of: tuple | None = None
        self._found: list[PromptFacts] = []  # by image

    def facts(self, rows: Sequence[Name], reading: PromptReading | None, clip_skip: Any) -> dict[Hashable, PromptFacts]:
        """Return what is known by row. A row that is left out counts as naming every concept.

        ``reading``: with what the prompts were encoded, if that is known. Raises ErasureError where the concepts were
        encoded at another ``clip_skip``.
        """
        if reading is not None and reading.clip_skip != clip_skip:
            raise ErasureError(
                f"the prompt was read at clip skip {quoted(reading.clip_skip)} and the concepts at "
                f"{quoted(clip_skip)}: somebody has changed it meanwhile. Make the image again"
            )
        p = self._p
        second = bool(getattr(p, "is_hr_pass", False)) and getattr(p, "hr_prompts", None)
        prompts = tuple(second or getattr(p, "prompts", None) or ())
        steps = getattr(p, "steps", None) or 1
        steps = steps, getattr(p, "hr_second_pass_steps", None) or steps
        made_of = prompts, steps, reading or Mode.now()
        if self._made_of != made_of:
            each = {
                text: facts_of(text, self._concepts, shared.sd_model, *steps, reading)
                for text in dict.fromkeys(prompts)
            }
            self._made_of, self._found = made_of, [each[text] for text in prompts]
        return {row: self._found[row[0]] for row in rows if row is not None and row[0] < len(self._found)}


class BatchSampling:
    """The sampling of a batch of ``p`` from which ``plans`` erase, or which they watch."""

    def __init__(self, p: Any, plans: Sequence[PlanInBatch]):
        self.p, self.plans = p, list(plans)
        self.failure: BaseException | None = None
        self._done: set[int] = set()  # plans that have erased from at least one step
        self._attached = ExitStack()
        self._ledger = RowLedger()
        self._unet: torch.nn.Module | None = None  # None: the next denoiser call puts the hooks on
        self._denoiser: Any = None
        self._tiled = False
        self._step: forge.Step | None = None  # where the host orders a step's rows itself
        self._state: tuple = ()  # what the encodings were made for, and the scales read with
        self._clip_skip: Any = None  # at which the concepts were encoded
        concepts = [concept for plan in plans for concept in plan.plan.request.concepts]
        self._prompts = PassPrompts(p, concepts)

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
        self._clip_skip = getattr(shared.opts, "CLIP_stop_at_last_layers", None)
        before, self._state = self._state, self._current()
        self._unet, self._tiled = self._state[0], False
        ledger = RowLedger()  # of a model and pass; that of the one before is checked as its erasures are renewed
        if forge.is_here():
            ordering = self._unet.register_forward_pre_hook(self._order, with_kwargs=True)
            self._attached.callback(take_off, self._unet, ordering)
        undisturbed = functools.partial(extensions.undisturbed, self.p, self._unet)
        for plan in self.plans:
            if plan.applies(self.p):
                erasure = plan.renew(self.p, shared.sd_model, ledger, before != self._state)
                self._attached.enter_context(attach(self._unet, erasure, undisturbed))
        self._ledger = ledger

    def detach(self) -> None:
        """Take all hooks off; the next denoiser call puts them on again."""
        self._attached.close()
        self._unet = None

    def _current(self) -> tuple:
        """Return what encodings and scales depend on; they are made again when it changes.

        The UNet, the weights in it (a refiner of its kind takes it over), the pass, and the networks that are active.
        What is written to the UNet's weights the hooks see by themselves.
        """
        model = shared.sd_model
        return (
            unet_of(model),
            getattr(model, "sd_checkpoint_info", None),
            bool(getattr(self.p, "is_hr_pass", False)),
            active_hypernetworks(),
            _active_loras(),
        )

    # -- a step ------------------------------------------------

    def on_step(self, params: Any) -> None:
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

        def raise_failure(module, args):
            raise error

        unet = find_unet(shared.sd_model)
        if unet is not None:
            self._attached.callback(take_off, unet, unet.register_forward_pre_hook(raise_failure))

    def _announce(self, params: Any) -> None:
        denoiser = params.denoiser
        if self._unet is None or self._current() != self._state or self._denoiser not in (None, denoiser):
            self.attach()
            forge.bring_unet_back(shared.sd_model, params.x)
        self._denoiser = denoiser
        rows, identify = self._rows(params)
        facts = self._prompts.facts(rows, reading_of(denoiser), self._clip_skip)
        done = min(1.0, denoiser.step / max(1, denoiser.total_steps))
        if any(plan.applies(self.p) for plan in self.plans):
            self._ledger.begin(rows, identify)
        for number, plan in enumerate(self.plans):
            if plan.applies(self.p):
                plan.erasure.facts.update(facts)
                plan.erasure.begin_step(done)
                plan.steps += 1
                if plan.erasure.injects or plan.is_unerased:
                    self._done.add(number)
        if not self._tiled and extensions.makes_tiles(denoiser, shared.sd_model):
            self._watch_tiles(denoiser)

    def _rows(self, params: Any) -> tuple[list[Name], Callable[[], Identities] | None]:
        """Return the names of a denoiser call's rows, and by what the ledger tells them apart.

        On Forge the rows cannot be told apart: there ``_order`` asks each UNet call for its rows.
        """
        if forge.is_here():
            self._step = forge.Step(params.denoiser, params.x.shape[0])
            return self._step.rows, None
        rows = conditional_rows(params.denoiser, params.x.shape[0])
        extensions.check_order(self.p, rows.names)
        return rows.names, functools.partial(rows.identities, params)

    def _order(self, unet: torch.nn.Module, args: tuple, kwargs: dict) -> None:
        """Order the rows of a UNet call: a pre-hook ahead of the erasures' own."""
        if self._step is None or is_inner_call():
            return
        with told_to(self._ledger.refuse):
            self._ledger.bring_forward(self._step.rows_of_call(kwargs, UNetCall(args, kwargs).batch))

    # -- tiles ------------------------------------------------

    def _watch_tiles(self, denoiser: Any) -> None:
        if any(plan.plan.request.show_attention and not plan.is_unerased for plan in self.plans):
            raise ErasureError(
                "the image is made in tiles by Tiled Diffusion, so where the attention was cannot be shown; untick "
                "Show attention"
            )
        self._tiled = True
        self._attached.enter_context(extensions.around_calls(denoiser.inner_model, self._tiles))

    @contextmanager
    def _tiles(self, rows: int) -> Iterator[None]:
        """Stand around a call for so many rows that Tiled Diffusion divides into tiles."""
        with self._ledger.tiles(rows):
            yield
            if shared.state.interrupted:  # then it stops between two tiles
                self._ledger.invalidate()
