"""The row ledger: which rows of a step's UNet calls are conditional, and which of them the UNet has seen."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager

import torch

from lib_gie.errors import ErasureError, told_to

from .announced import Announced, Name, Tiles
from .identities import Candidates, Identities, KnownRows

__all__ = ["Candidates", "Identities", "Name", "RowLedger"]


class RowLedger:
    """The rows that a host has announced for the running step, and which of them the UNet has seen.

    Rows are known by their place, or, where the host says by what to tell them (``Identities``), by that: then UNet
    calls may have any of them in any order, and again.
    """

    def __init__(self) -> None:
        self.refusal: BaseException | None = None
        """The first error: hosts may swallow it, so ``begin`` and ``finish`` raise it again."""
        self._calls = 0
        self._announced: Announced | None = None  # None: the next UNet call is an error
        self._identify: Callable[[], Identities] | None = None
        self._known: KnownRows | None = None
        self._tiles: Tiles | None = None  # while a call is made in tiles

    @property
    def is_tiled(self) -> bool:
        """Tell whether a call is being made in tiles."""
        return self._tiles is not None

    # -- refusals ------------------------------------------------

    def refuse(self, error: BaseException) -> None:
        """Keep the first error."""
        self.refusal = self.refusal or error

    def _or_invalid(self) -> AbstractContextManager[None]:
        """Keep what is raised within the context, and forget what was announced."""

        def forget(error: ErasureError) -> None:
            self.invalidate()
            self.refuse(error)

        return told_to(forget, ErasureError)

    # -- a step ------------------------------------------------

    def begin(self, names: Sequence[Name], identify: Callable[[], Identities] | None = None) -> None:
        """Announce a step's rows. ``identify`` is called when the UNet is, after all others have had their say.

        Raises ErasureError where conditional rows of the step before never reached the UNet, and what was refused.
        """
        self._check_all_seen()
        with self._or_invalid():
            if not any(name is not None for name in names):
                raise ErasureError(
                    f"none of the {len(names)} announced rows is conditional, so nothing could be erased; announce "
                    f"each conditional row by its image's name"
                )
        self._announced, self._identify, self._known, self._tiles = Announced(names), identify, None, None

    def invalidate(self) -> None:
        """Forget what was announced: the next UNet call raises unless ``begin`` comes first."""
        self._announced = self._known = self._tiles = None

    def finish(self) -> None:
        """Check, after the last step, that every announced conditional row was seen. Raises ErasureError."""
        self._check_all_seen()
        with self._or_invalid():
            if self._calls == 0:
                raise ErasureError(
                    "the UNet was never called, so nothing was erased; a custom UNet may have been used: switch it off"
                )

    def _check_all_seen(self) -> None:
        if self.refusal is not None:
            raise self.refusal
        missed = 0 if self._announced is None else self._announced.missed
        with self._or_invalid():
            if missed:
                raise ErasureError(
                    f"{missed} conditional rows of a step never reached the UNet's attention layers; the image may "
                    f"not be erased. Another extension or a custom UNet may stand in between: switch it off. "
                    f"Or the host announced other rows than it made"
                )

    # -- a UNet call ------------------------------------------------

    def take(self, latents: torch.Tensor, context: torch.Tensor | None) -> tuple[Name, ...]:
        """Return the names of a UNet call's rows.

        ``latents``: [B, C, H, W]; ``context``: [B, L, D], needed where rows are told apart by it. Raises ErasureError
        for rows that cannot be known.
        """
        batch = len(latents)
        with self._or_invalid():
            if self._announced is None:
                raise ErasureError(
                    f"the UNet was called with {batch} rows that no sampling step announced, so it is unknown which "
                    f"are conditional. Another extension made this call: switch it off"
                )
            placed = None if self._tiles is None else self._tiles.next(batch)
            if self._identify is None:
                rows = self._announced.next(batch) if placed is None else placed
            else:
                if self._known is None:
                    self._known = KnownRows(self._announced, self._identify())
                rows = self._known.take(latents, context, placed)
        self._calls += 1
        return rows

    def bring_forward(self, rows: Sequence[Name]) -> None:
        """Say which of the announced rows the coming UNet call has, in their order.

        For hosts that find an order of their own only then. Raises ErasureError where these rows are not left.
        """
        if self._announced is not None:  # else ``take`` says so
            with self._or_invalid():
                self._announced.bring_forward(rows)

    @contextmanager
    def tiles(self, batch: int) -> Iterator[None]:
        """Make the next ``batch`` announced rows tile by tile within the context, each tile with all of them.

        A UNet call has the rows of one tile, or of several tiles one after the other, or a part of a tile's.
        Raises ErasureError at the end where there was no tile, or where the last one lacks rows.
        """
        with self._or_invalid():
            if self._announced is None:
                raise ErasureError(
                    f"{batch} rows in tiles were not announced, so nothing can be erased; announce the step's rows "
                    f"first"
                )
            self._tiles = Tiles(self._announced.next(batch))
        yield
        done, self._tiles = self._tiles, None
        if done is not None:  # else what was announced has been forgotten meanwhile
            with self._or_invalid():
                done.check()
