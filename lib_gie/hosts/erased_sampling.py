"""Drives the erasures of one sampling: every host announces its steps through this class."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from types import TracebackType

from torch import nn

from lib_gie.core.call import Args, Kwargs, UNetCall
from lib_gie.core.erasure import Erasure
from lib_gie.core.rows import Identities, Name, RowLedger
from lib_gie.core.session import Session, attach, is_inner_call
from lib_gie.errors import told_to
from lib_gie.handles import take_off

from .protocol import SamplingHost, StepRows


@dataclass(frozen=True)
class RowsInOrder:
    """Rows that UNet calls take in the order of ``names``: see ``StepRows``."""

    names: Sequence[Name]
    identify: Callable[[], Identities] | None = None
    order: Callable[[UNetCall], Sequence[Name]] | None = None


class ErasedSampling:
    """The erasures of one sampling by a host, which share one ledger of announced rows.

    As a context it checks at its end that everything was erased from (``finish``), and takes all hooks off. A host that
    needs both at other times calls ``finish`` and ``close`` itself. Without an erasure nothing is done or checked.
    """

    def __init__(self, host: SamplingHost):
        self.ledger = RowLedger()
        self._host = host
        self._attached = ExitStack()
        self._erasures: list[Erasure] = []
        self._rows: StepRows | None = None  # of the step that runs

    def __enter__(self) -> ErasedSampling:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._attached:
            if error is None:
                self.finish()

    def attach(self, erasure: Erasure) -> Session:
        """Have an erasure erase from every call of the host's UNet, and return the UNet's session.

        The erasure must have been made with this sampling's ledger. Raises UnsupportedModelError for a UNet without
        usable cross-attention, AdapterError where an adapter does not fit it.
        """
        unet = self._host.unet
        if not self._erasures:  # ahead of the session's own hooks, which take the rows
            ordering = unet.register_forward_pre_hook(self._order, with_kwargs=True)
            self._attached.callback(take_off, unet, ordering)
        session = self._attached.enter_context(attach(unet, erasure, self._host.undisturbed))
        self._erasures.append(erasure)
        return session

    def begin_step(self, rows: StepRows, progress: float) -> None:
        """Announce the rows of the coming UNet calls. ``progress``: the fraction of the sampling that is done, 0 to 1.

        Raises ErasureError where conditional rows of the step before never reached the UNet, and what a UNet call
        before was refused for, if that was swallowed.
        """
        if not self._erasures:
            return
        self._rows = rows
        self.ledger.begin(rows.names, rows.identify)
        for erasure in self._erasures:
            erasure.begin_step(progress)

    def _order(self, unet: nn.Module, args: Args, kwargs: Kwargs) -> None:
        """Say in which order a UNet call has its rows, where only the call tells."""
        order = None if self._rows is None else self._rows.order
        if order is not None and not is_inner_call():
            with told_to(self.ledger.refuse):
                self.ledger.bring_forward(order(UNetCall(args, kwargs)))

    def finish(self) -> None:
        """Raise ErasureError, after the last step, where a row was missed or a UNet call was refused."""
        if self._erasures:
            self.ledger.finish()

    def close(self) -> None:
        """Take all hooks off."""
        self._attached.close()
        self._erasures.clear()
