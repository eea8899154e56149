"""Batches of a job that are left out, because they were stopped before anything was erased from them."""

from __future__ import annotations

from typing import Any

from lib_gie.hosts.webui.host.contract import Processing


class LeftOut:
    """The left-out batches of the job of ``p``, and what of ``p`` is changed on their account."""

    def __init__(self, p: Processing):
        self.batches: set[int] = set()
        self._p = p
        self._pictures = 0  # of the job, up to now
        self._put_aside: dict[str, Any] = {}

    def add(self) -> None:
        """Leave out the batch that is being made."""
        self.put_aside("do_not_save_grid")
        self.batches.add(self._p.iteration)

    @property
    def is_running(self) -> bool:
        """Whether the batch that is being made is left out: nothing of it is to be seen."""
        return getattr(self._p, "iteration", 0) in self.batches

    def count(self, pictures: int) -> None:
        """Add a batch's images to the job's. Where no batch has any the host has nothing to make its grid of."""
        self._pictures += pictures
        if self.batches:
            self._p.do_not_save_grid = self._put_aside["do_not_save_grid"] or not self._pictures

    def put_aside(self, name: str) -> None:
        """Remember an attribute of ``p``, which is to be after the job what it is now."""
        self._put_aside.setdefault(name, getattr(self._p, name, None))

    def put_back(self) -> None:
        """Put back, after the job, what was put aside."""
        for name, value in self._put_aside.items():
            setattr(self._p, name, value)
