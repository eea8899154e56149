"""The row ledger: which rows of a step's UNet calls are conditional, and which of them the UNet has seen."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from .errors import ErasureError

Name = Hashable | None
"""The name of a row: conditional ones keep theirs over the steps, unconditional ones have None."""

_ALIKE = 0.9999
"""The cosine from which on two latents are the same: hosts scale and may round them, and change nothing else."""


@dataclass(frozen=True)
class Candidates:
    """The positions of announced rows that a UNet call's row can be: by its context, and those by its latents, too."""

    positions: list[int]
    alike: list[int]


@dataclass(frozen=True, eq=False)
class Identities:
    """What a step's rows are told apart by. Every sequence has one entry per announced row, in their order.

    ``contexts``: float [rows, L, D] each; together they have all rows. A host may lengthen or shorten a context later,
    but not change what it begins with. ``images``: the number of each row's image.
    ``shares``: how large a part of its image each row makes; below 0 where it is pushed away. Rows of one image under
    one context cannot be told apart: all of them are erased from where they make a part of the image together.
    ``shown``: positions of rows whose own prediction a host may show, which must be erased from in any case.
    ``latents``: float [rows, C, H, W], None where they are not known.
    """

    contexts: Sequence[torch.Tensor]
    images: Sequence[int]
    shares: Sequence[float]
    shown: frozenset[int] = frozenset()
    latents: torch.Tensor | None = None

    def candidates(self, latents: torch.Tensor, context: torch.Tensor) -> list[Candidates]:
        """Find which announced rows each row of a UNet call can be: ``latents`` [B, C, H, W], ``context`` [B, L, D].

        Both comparisons come from the device in one copy.
        """
        same, lengths = self._same_contexts(context), [group.shape[1] for group in self.contexts for _ in group]
        alike = self._alike(latents).to(same.device) & same  # [B, rows]
        found = []
        for is_same, is_alike in zip(*torch.stack([same, alike]).tolist(), strict=True):
            positions = [position for position, one in enumerate(is_same) if one]
            exact = [position for position in positions if lengths[position] == context.shape[1]] or positions
            found.append(Candidates(exact, [position for position in exact if is_alike[position]]))
        return found

    def _same_contexts(self, context: torch.Tensor) -> torch.Tensor:
        """Tell whether [B, L, D] begins as each announced row does, as far as both go: bool [B, rows]."""
        found = []
        for group in self.contexts:
            length = min(context.shape[1], group.shape[1])
            like = group[:, :length].to(context.device, context.dtype)  # [rows, l, D]
            if like.shape[2] == context.shape[2]:
                found.append((context[:, None, :length] == like[None]).flatten(2).all(-1))  # [B, rows]
            else:
                found.append(torch.zeros(len(context), len(group), dtype=torch.bool, device=context.device))
        return torch.cat(found, 1)  # [B, rows]

    def _alike(self, latents: torch.Tensor) -> torch.Tensor:
        """Tell whether [B, C or more, H, W] is what each announced row has, but for a factor: bool [B, rows].

        True where that cannot be compared, as in a tile.
        """
        count = sum(map(len, self.contexts))
        if self.latents is None or self.latents.shape[2:] != latents.shape[2:]:
            return torch.ones(len(latents), count, dtype=torch.bool)
        own = self.latents.flatten(1).float()  # [rows, C*H*W]
        given = latents[:, : self.latents.shape[1]].flatten(1).to(own)  # [B, C*H*W]
        cosines = torch.nn.functional.cosine_similarity(given[:, None], own[None], dim=-1)  # [B, rows]
        return cosines > _ALIKE


class RowLedger:
    """What a host has announced for the running step, and what of it the UNet has seen.

    Rows are known by their place, or, where the host says by what to tell them (``Identities``), by that: then UNet
    calls may have any of them in any order, and again.
    """

    def __init__(self):
        self.refusal: BaseException | None = None
        """The first error: hosts may swallow it, so ``begin`` and ``finish`` raise it again."""
        self.calls = 0
        self._names: tuple[Name, ...] | None = None
        self._uses: list[int] = []  # UNet calls that had each row
        self._identify: Callable[[], Identities] | None = None
        self._identities: Identities | None = None
        self._tile: tuple[Name, ...] | None = None  # the rows of a call that is made in tiles
        self._tile_seen = 0  # of them, in the tile that is being made

    @property
    def is_tiled(self) -> bool:
        """Whether a call is being made in tiles."""
        return self._tile is not None

    def refuse(self, error: BaseException) -> BaseException:
        """Keep the first error, and return this one."""
        self.refusal = self.refusal or error
        return error

    @contextmanager
    def refusals_kept(self) -> Iterator[None]:
        """Keep the first of what is raised within the context: hosts may swallow it."""
        try:
            yield
        except BaseException as error:
            self.refuse(error)
            raise

    def _refuse(self, message: str) -> ErasureError:
        self.invalidate()
        return self.refuse(ErasureError(message))

    def begin(self, names: Sequence[Name], identify: Callable[[], Identities] | None = None) -> None:
        """Announce a step's rows. ``identify`` is called when the UNet is, after all others have had their say.

        Raises ErasureError where conditional rows of the step before never reached the UNet, and what was refused.
        """
        self._check_all_seen()
        if not any(name is not None for name in names):
            raise self._refuse(f"none of the {len(names)} announced rows is conditional; nothing could be erased")
        self._names, self._uses = tuple(names), [0] * len(names)
        self._identify, self._identities, self._tile = identify, None, None

    def invalidate(self) -> None:
        """Forget what was announced: the next UNet call raises unless ``begin`` comes first."""
        self._names = self._identities = self._tile = None
        self._uses = []

    def finish(self) -> None:
        """Check, after the last step, that every announced conditional row was seen. Raises ErasureError."""
        self._check_all_seen()
        if self.calls == 0:
            raise self._refuse("the UNet was never called, so nothing was erased; a custom UNet may have been used")

    def _check_all_seen(self) -> None:
        if self.refusal is not None:
            raise self.refusal
        missed = sum(not uses and name is not None for name, uses in zip(self._names or (), self._uses, strict=True))
        if missed:
            raise self._refuse(
                f"{missed} conditional rows of a step never reached the UNet's attention layers; the image may "
                f"not be erased. Another extension or a custom UNet may stand in between: switch it off"
            )

    # -- a UNet call ------------------------------------------------

    def take(self, latents: torch.Tensor, context: torch.Tensor | None) -> tuple[Name, ...]:
        """Return the names of a UNet call's rows.

        ``latents``: [B, C, H, W]; ``context``: [B, L, D], needed where rows are told apart by it. Raises ErasureError
        for rows that cannot be known.
        """
        batch = len(latents)
        if self._names is None:
            raise self.refuse(
                ErasureError(
                    f"the UNet was called with {batch} rows that no sampler step announced, so it is unknown which are "
                    f"conditional; growth inhibitors cannot be used with what made this call"
                )
            )
        placed = self._next_tiles(batch) if self.is_tiled else None
        if self._identify is None:
            rows = placed or self._next_rows(batch)
        else:
            rows = self._known_rows(latents, context, placed)
        self.calls += 1
        return rows

    def _next_rows(self, batch: int) -> tuple[Name, ...]:
        """Take the next rows, which are known by their place."""
        left = [position for position, uses in enumerate(self._uses) if not uses]
        if batch > len(left):
            raise self._refuse(
                f"the UNet was called with {batch} rows where {len(left)} of {len(self._names)} announced ones were "
                f"left; the conditional rows are unknown, so nothing can be erased safely"
            )
        for position in left[:batch]:
            self._uses[position] += 1
        return tuple(self._names[position] for position in left[:batch])

    def bring_forward(self, rows: Sequence[Name]) -> None:
        """Say which of the announced rows the coming UNet call has, in their order.

        For hosts that find an order of their own only then. Raises ErasureError where these rows are not left.
        """
        if self._names is None:
            return  # ``take`` says so
        seen = [name for name, uses in zip(self._names, self._uses, strict=True) if uses]
        left = [name for name, uses in zip(self._names, self._uses, strict=True) if not uses]
        for row in rows:
            if row not in left:
                raise self._refuse(
                    f"the UNet was called with {len(rows)} rows of which not all are left of this step's; the "
                    f"conditional rows are unknown, so nothing can be erased safely"
                )
            left.remove(row)
        self._names = (*seen, *rows, *left)
        self._uses = [1] * len(seen) + [0] * (len(rows) + len(left))

    # -- rows that are told apart by what they are ------------------------------------------------

    def _known_rows(
        self, latents: torch.Tensor, context: torch.Tensor | None, placed: tuple[Name, ...] | None
    ) -> tuple[Name, ...]:
        """Return the names of rows that are told apart by their identities.

        ``placed``: their names by their place in tiles, which may have prompts of their own.
        """
        if self._identities is None:
            self._identities = self._checked_identities()
        candidates = [] if context is None else self._identities.candidates(latents, context)
        unknown = len(latents) - sum(bool(row.positions) for row in candidates)
        if not unknown:
            return tuple(map(self._name_of, candidates))
        if placed is not None and self._fits(candidates, placed):
            return placed
        raise self._refuse(
            f"{unknown} of {len(latents)} rows of a UNet call have a prompt that this step did not announce, so it is "
            f"unknown what they draw. Another extension samples with prompts of its own: switch it off"
        )

    def _fits(self, candidates: Sequence[Candidates], placed: Sequence[Name]) -> bool:
        """Whether the rows that are known are of the kind that they have by their place in tiles."""
        known = [(row, name) for row, name in zip(candidates, placed, strict=False) if row.positions]
        return all((self._name_of(row) is None) == (name is None) for row, name in known)

    def _checked_identities(self) -> Identities:
        try:
            found = self._identify()
        except ErasureError as error:
            raise self.refuse(error) from None
        count = sum(map(len, found.contexts))
        if count != len(self._names):
            raise self._refuse(
                f"{len(self._names)} rows were announced and there are prompts for {count}, so it is unknown which "
                f"belong together. Another extension adds rows or takes some away: switch it off"
            )
        return found

    def _name_of(self, row: Candidates) -> Name:
        """Return the name of a UNet call's row, and count its use."""
        positions = row.positions
        answers = {self._is_erased(positions, image) for image in self._images(positions)}
        if len(answers) > 1:
            positions = row.alike
            answers = {self._is_erased(positions, image) for image in self._images(positions)}
        if len(answers) != 1:
            raise self._refuse(
                "a row of a UNet call can be that of an image that draws its prompt or that of another image that "
                "pushes the same prompt away, so it is unknown whether to erase from it. Make these images one by one"
            )
        is_erased = answers.pop()
        if not is_erased and self._identities.shown.intersection(positions):
            raise self._refuse(
                "the first part of the prompt is pushed away by others of the same text, and what a WebUI shows on the "
                "way is made of it: put a part first that is drawn"
            )
        named = [position for position in positions if self._names[position] is not None]
        chosen = min(row.alike or positions, key=lambda position: (self._uses[position], position))
        self._uses[chosen] += 1
        if not is_erased:
            return None
        return self._names[chosen if self._names[chosen] is not None else named[0]]

    def _images(self, positions: Sequence[int]) -> set[int]:
        return {self._identities.images[position] for position in positions}

    def _is_erased(self, positions: Sequence[int], image: int) -> bool:
        """Tell whether an image's rows at these positions, all under one context, are erased from."""
        own = [position for position in positions if self._identities.images[position] == image]
        kinds = {self._names[position] is not None for position in own}
        if len(kinds) == 1:
            return kinds.pop()
        return sum(self._identities.shares[position] for position in own) > 0

    # -- tiles ------------------------------------------------

    @contextmanager
    def tiles(self, batch: int) -> Iterator[None]:
        """Make the next ``batch`` announced rows tile by tile within the context, each tile with all of them.

        A UNet call has the rows of one tile, or of several tiles one after the other, or a part of a tile's.
        Raises ErasureError at the end where there was no tile, or where the last one lacks rows.
        """
        if self._names is None:
            raise self.refuse(ErasureError(f"{batch} rows in tiles were not announced; nothing can be erased"))
        self._tile, self._tile_seen, before = self._next_rows(batch), 0, self.calls
        yield
        tile, self._tile = self._tile, None
        if tile is not None and (self._tile_seen or self.calls == before):
            raise self._refuse(
                f"of the tiles of {batch} rows the last one had {self._tile_seen} rows, or there was none, so parts of "
                f"the image may not be erased"
            )

    def _next_tiles(self, batch: int) -> tuple[Name, ...]:
        """Return the rows of whole tiles, or of a part of one."""
        tile, seen = self._tile, self._tile_seen
        if not seen and batch % len(tile) == 0:
            return tile * (batch // len(tile))
        if seen + batch > len(tile):
            raise self._refuse(
                f"the UNet was called with {batch} rows of tiles that have {len(tile)} rows, of which {seen} were "
                f"made; the conditional rows are unknown, so nothing can be erased safely"
            )
        self._tile_seen = (seen + batch) % len(tile)
        return tile[seen : seen + batch]
