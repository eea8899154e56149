"""What the demo model's images show, as the commands say it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Shown:
    """What some images show, at least one of them each: objects and styles by their names, without the plain style."""

    objects: frozenset[str]
    styles: frozenset[str]

    def __str__(self) -> str:
        """Return one line: the objects and, after a semicolon, the styles, if any ("cat, knife; pencil sketch")."""
        objects = ", ".join(sorted(self.objects)) or "none"
        return "; ".join((objects, ", ".join(sorted(self.styles)))) if self.styles else objects


def shown_in(pictures: Iterable[Any]) -> Shown:
    """Return what Pillow images show to the demo world's detector."""
    from lib_gie.demo.world.detector import look_at_picture  # commands on other models do without

    sights = [look_at_picture(picture) for picture in pictures]
    return together([Shown(sight.objects, sight.shown - sight.objects) for sight in sights])


def together(shown: Iterable[Shown]) -> Shown:
    """Return what some images show, from what each of them does."""
    each = list(shown)
    objects = frozenset[str]().union(*(one.objects for one in each))
    return Shown(objects, frozenset[str]().union(*(one.styles for one in each)))
