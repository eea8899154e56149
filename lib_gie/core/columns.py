"""The scales of a term's columns, put on the device once for all steps in which they are the same."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import torch


class ColumnScales:
    """w of every column of a term, for the rows that it is added to.

    ``columns``: float32 [rows, columns], on the CPU. ``owners``: for every column the number of its concept.
    """

    def __init__(self, columns: torch.Tensor, owners: Sequence[int], device: torch.device):
        self._given, self._owners, self._device = columns, tuple(owners), device
        self._placed: dict[torch.dtype, torch.Tensor] = {}

    @cached_property
    def columns(self) -> torch.Tensor:
        """w of every column: float32 [rows, columns], on the device."""
        return self._given.to(self._device)

    @cached_property
    def _found(self) -> tuple[tuple[int | None, ...], list[torch.Tensor]]:
        numbers: dict[tuple[int, ...], int] = {}
        groups: list[int | None] = []
        scales: list[torch.Tensor] = []
        for owner, column in zip(self._owners, self._given.T, strict=True):  # [rows]
            key = owner, *column.tolist()
            if not any(key[1:]):
                groups.append(None)
                continue
            if key not in numbers:
                numbers[key] = len(scales)
                scales.append(column)
            groups.append(numbers[key])
        return tuple(groups), scales

    @property
    def groups(self) -> tuple[int | None, ...]:
        """For every column the number of its group: columns of one concept with the same w in all rows.

        None for columns whose w is 0 in all rows: nothing is added for them.
        """
        return self._found[0]

    def by_group(self, dtype: torch.dtype) -> torch.Tensor:
        """Return w of every group: [rows, groups] on the device, in this dtype. Each dtype is made once."""
        if dtype not in self._placed:
            self._placed[dtype] = torch.stack(self._found[1], 1).to(self._device, dtype)  # [rows, groups]
        return self._placed[dtype]
