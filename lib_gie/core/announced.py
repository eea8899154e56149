"""The rows that a host announces for one step, and which of them the UNet has had."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

from lib_gie.errors import ErasureError

Name = Hashable | None
"""The name of a row: conditional ones keep theirs over the steps, unconditional ones have None."""

_SWITCH_OFF = "Another extension or a custom UNet makes calls of its own: switch it off"


class Announced:
    """The rows of a step, by their names, and in how many UNet calls each has been."""

    def __init__(self, names: Sequence[Name]):
        self.names = tuple(names)
        self._uses = [0] * len(self.names)

    @property
    def missed(self) -> int:
        """The number of conditional rows that no UNet call had."""
        return sum(not uses and name is not None for name, uses in zip(self.names, self._uses, strict=True))

    def use(self, positions: Sequence[int]) -> int:
        """Count a use of the one among these rows that was used least, and return its position."""
        chosen = min(positions, key=lambda position: (self._uses[position], position))
        self._uses[chosen] += 1
        return chosen

    def next(self, batch: int) -> tuple[Name, ...]:
        """Take the next rows, which are known by their place. Raises ErasureError where fewer are left."""
        left = [position for position, uses in enumerate(self._uses) if not uses]
        if batch > len(left):
            raise ErasureError(
                f"the UNet was called with {batch} rows where {len(left)} of {len(self.names)} announced ones were "
                f"left, so it is unknown which are conditional. {_SWITCH_OFF}"
            )
        for position in left[:batch]:
            self._uses[position] += 1
        return tuple(self.names[position] for position in left[:batch])

    def bring_forward(self, rows: Sequence[Name]) -> None:
        """Put these rows next in order. Raises ErasureError where they are not left."""
        seen = [name for name, uses in zip(self.names, self._uses, strict=True) if uses]
        left = [name for name, uses in zip(self.names, self._uses, strict=True) if not uses]
        for row in rows:
            if row not in left:
                raise ErasureError(
                    f"the UNet was called with {len(rows)} rows of which not all are left of this step's, so it is "
                    f"unknown which are conditional. {_SWITCH_OFF}"
                )
            left.remove(row)
        self.names = (*seen, *rows, *left)
        self._uses = [1] * len(seen) + [0] * (len(rows) + len(left))


class Tiles:
    """The rows of a call that is made tile by tile: each tile has all of them."""

    def __init__(self, rows: tuple[Name, ...]):
        self._rows = rows
        self._seen = 0  # rows of the tile that is being made
        self.calls = 0

    def next(self, batch: int) -> tuple[Name, ...]:
        """Return the rows of whole tiles, or of a part of one. Raises ErasureError where they fit no tile."""
        rows, seen = self._rows, self._seen
        self.calls += 1
        if not seen and batch % len(rows) == 0:
            return rows * (batch // len(rows))
        if seen + batch > len(rows):
            raise ErasureError(
                f"the UNet was called with {batch} rows of tiles that have {len(rows)} rows, of which {seen} were "
                f"made, so it is unknown which are conditional. {_SWITCH_OFF}"
            )
        self._seen = (seen + batch) % len(rows)
        return rows[seen : seen + batch]

    def check(self) -> None:
        """Raise ErasureError where there was no tile, or where the last one lacks rows."""
        if self._seen or not self.calls:
            raise ErasureError(
                f"of the tiles of {len(self._rows)} rows the last one had {self._seen} rows, or there was none, so "
                f"parts of the image may not be erased. {_SWITCH_OFF}"
            )
