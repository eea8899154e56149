"""One session per UNet: the erasures that are attached to it share its hooks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from weakref import WeakKeyDictionary

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from lib_gie.errors import ErasureError, told_to
from lib_gie.randomness import undrawn

from .call import Args, Kwargs, UNetCall
from .composition import Follower
from .encoding import EncodedConcept
from .erasure import Erasure, Target
from .layers import AttentionLayer, family_of
from .parts import Member
from .planning import plan_call
from .readings import is_misread, read, side_by_side
from .recorder import Reading
from .runner import Undisturbed, UNetRunner, is_inner_call, remove
from .scales.scale_rules import GivenScales, ScaleRule

__all__ = ["Session", "attach", "check_rules", "erasing", "is_inner_call", "read_attention"]


class Session:
    """The erasures of one UNet, and its hooks. Use ``attach``; this is what it yields."""

    def __init__(self, unet: nn.Module):
        """Find the UNet's layers. Raises UnsupportedModelError for a UNet without usable cross-attention."""
        self.members: list[Member] = []
        self._runner = UNetRunner(unet, self._refuse)
        self._handles: list[tuple[nn.Module, RemovableHandle]] = []

    @property
    def layers(self) -> Sequence[AttentionLayer]:
        """The UNet's cross-attention layers."""
        return self._runner.layers

    # -- coming and going ------------------------------------------------

    def add(self, erasure: Erasure, undisturbed: Undisturbed) -> None:
        """Attach an erasure; a second time changes nothing. Raises AdapterError where an adapter does not fit."""
        member = next((one for one in self.members if one.erasure is erasure), None)
        if member is None:
            member = self._member(erasure, undisturbed)
            self._hook_up(member)
            self.members.append(member)
        member.uses += 1

    def _member(self, erasure: Erasure, undisturbed: Undisturbed) -> Member:
        check_rules(self.layers, [target.rule for target in erasure.targets])
        if erasure.composition is None:
            return Member(erasure, undisturbed, None)
        follower = Follower(self._runner.unet, self.layers, lambda: self._runner.is_watching)
        return Member(erasure, undisturbed, follower)

    def _hook_up(self, member: Member) -> None:
        """Put the hooks on. Those of the UNet go behind all others: a host announces its rows in one of them."""
        unet = self._runner.unet
        remove(self._handles)
        self._handles.append((unet, unet.register_forward_pre_hook(self._before_unet, with_kwargs=True)))
        self._handles.append((unet, unet.register_forward_hook(self._after_unet)))
        self._handles.append((unet, unet.register_forward_hook(self._at_end, always_call=True)))
        self._runner.attach(member.erasure.rule.needs)
        if member.follower is not None:
            member.handles = member.follower.attach()

    def remove(self, erasure: Erasure) -> None:
        """Take an erasure off, once it is removed as often as it was added."""
        member = next(one for one in self.members if one.erasure is erasure)
        member.uses -= 1
        if member.uses:
            return
        self.members.remove(member)
        remove(member.handles)
        self._runner.folds.clear()
        if not self.members:
            self._end_call()
            remove(self._handles)
            self._runner.detach()

    # -- a call of the UNet ------------------------------------------------

    def _before_unet(self, unet: nn.Module, args: Args, kwargs: Kwargs) -> None:
        if is_inner_call():
            return
        self._end_call()
        with told_to(self._refuse):
            if self._runner.notices_writes():
                for member in self.members:
                    member.erasure.read_again()
            with told_to(self._forget, ErasureError):
                self._runner.running = plan_call(self._runner, self.members, UNetCall(args, kwargs))

    def _after_unet(self, unet: nn.Module, args: Args, output: object) -> None:
        if is_inner_call():
            return
        running = self._runner.running
        with told_to(self._refuse), told_to(self._forget, ErasureError):
            if running is None:
                raise ErasureError(
                    "the UNet's rows were not looked at before it ran, so nothing was erased; another extension or "
                    "program has taken the UNet's hooks away: switch it off"
                )
            running.check()
            for member in self.members:
                if member.follower is not None:
                    member.follower.check_used()

    def _at_end(self, unet: nn.Module, args: Args, output: object) -> None:
        """Forget a call, also one that raised: nothing of it may be taken for another one's."""
        if not is_inner_call():
            self._end_call()

    def _end_call(self) -> None:
        self._runner.end()
        for member in self.members:
            if member.follower is not None:
                member.follower.forget()

    def _refuse(self, error: BaseException) -> None:
        """Note what is raised: a host that swallows it hears of it again."""
        for member in self.members:
            member.erasure.ledger.refuse(error)

    def _forget(self, error: ErasureError) -> None:
        """Forget what was announced: the next UNet call raises without a new announcement."""
        for member in self.members:
            member.erasure.invalidate()


def check_rules(layers: Sequence[AttentionLayer], rules: Iterable[ScaleRule]) -> None:
    """Raise AdapterError where a rule does not fit the model with these cross-attention layers."""
    heads = [layer.heads for layer in layers]
    for rule in rules:
        rule.check_model(family_of(layers), heads)


_sessions: WeakKeyDictionary[nn.Module, Session] = WeakKeyDictionary()
"""By UNet, while something is being erased from it."""


@contextmanager
def attach(unet: nn.Module, erasure: Erasure, undisturbed: Undisturbed = undrawn) -> Iterator[Session]:
    """Have every call of ``unet`` within the context erase what ``erasure`` says from its conditional rows.

    Attaching the same erasure to the same UNet again changes nothing; different erasures on one UNet add up; several
    UNets are independent. Nothing stays behind, also after an exception.

    ``undisturbed``: a context around UNet calls that are not the host's, where the host keeps its own randomness.

    Raises UnsupportedModelError for a UNet without usable cross-attention, AdapterError where an adapter does not fit.
    """
    session = _sessions.get(unet) or Session(unet)
    session.add(erasure, undisturbed)
    _sessions[unet] = session
    try:
        yield session
    finally:
        session.remove(erasure)
        if not session.members:
            _sessions.pop(unet, None)


def read_attention(
    unet: nn.Module, concepts: Sequence[EncodedConcept], reading: Reading, args: Args, kwargs: Kwargs | None = None
) -> list[torch.Tensor]:
    """Return what rules with this reading would see in a UNet call whose rows are all conditional.

    ``args``, ``kwargs``: the call's (latents [B, C, H, W], timesteps, context [B, L, D]). Returns for each concept
    float32 [B, inputs, n].
    """
    runner = UNetRunner(unet)
    runner.attach()
    call, kind = UNetCall(args, kwargs or {}), reading.kind
    try:
        answer = read(runner, call, tuple(concepts), 0.0, kind, undrawn, is_misread(runner, call, kind))
    finally:
        runner.detach()
    return [answer.inputs(reading, concept) for concept in concepts]


def read_inputs(
    unet: nn.Module,
    concepts: Sequence[EncodedConcept],
    readings: Sequence[Reading],
    args: Args,
    kwargs: Kwargs | None = None,
) -> list[torch.Tensor]:
    """Return what rules with these readings would see, see ``read_attention``: for each concept [B, inputs, n]."""
    found = [read_attention(unet, concepts, reading, args, kwargs) for reading in readings]
    return [side_by_side(parts) for parts in zip(*found, strict=True)]


@contextmanager
def erasing(unet: nn.Module, concept: EncodedConcept, scales: torch.Tensor) -> Iterator[None]:
    """Have one call of the UNet within the context, whose rows are all conditional, erase a concept.

    ``scales``: w of each row, float32 [B].
    """
    erasure = Erasure([Target(concept, GivenScales(scales))])
    with attach(unet, erasure):
        erasure.begin(range(len(scales)), 0.0)
        yield
        erasure.finish()
