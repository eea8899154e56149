"""What erasing has found for each image of a job: scales, how present concepts are, and why a scale was replaced."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lib_gie.core.scales.resolved import ResolvedScales
from lib_gie.core.scales.scale_rules import Replacement

if TYPE_CHECKING:
    from lib_gie.hosts.webui.request.plan import PlanInBatch

Presence = tuple[float | None, ...]


@dataclass(frozen=True)
class FoundScales:
    """What was found for one image.

    ``scales``: w by part of its prompt, concept and token. ``presence``: of each concept in its prompt, 0 to 1, in the
    part where it is most; None where nothing tells. ``reasons``: why a fixed scale took the place of a weaker answer
    for a concept, "" where none did.
    """

    scales: list[list[list[float]]]
    presence: Presence
    reasons: tuple[str, ...]


class FoundInJob:
    """What was found for every image of a job, by plan and batch."""

    def __init__(self) -> None:
        self._found: dict[tuple[int, int], dict[int, FoundScales]] = {}  # by plan and batch, then by image

    def keep(self, batch: int, plans: Sequence[PlanInBatch]) -> None:
        """Keep what plans that erase have found in a batch by now."""
        for number, progress in enumerate(plans):
            if not progress.is_unerased:
                found = {} if progress.erasure is None else _found_by_image(progress.erasure.resolved)
                self._found[number, batch] = found

    def of(self, plan: int, batch: int, image: int) -> FoundScales | None:
        """Return what was found for an image; None where it is not known (yet)."""
        return self._found.get((plan, batch), {}).get(image)


def _found_by_image(resolved: ResolvedScales) -> dict[int, FoundScales]:
    """Return what was found, by the image's number in the batch."""
    rows: dict[int, list[Hashable]] = {}
    for row in sorted(row for row in resolved.values if isinstance(row, tuple)):  # (image, part of its prompt)
        rows.setdefault(row[0], []).append(row)
    return {image: _of_image(resolved, own) for image, own in rows.items()}


def _of_image(resolved: ResolvedScales, rows: list[Hashable]) -> FoundScales:
    scales = [[values.tolist() for values in resolved.values[row]] for row in rows]
    presence = tuple(map(_most, zip(*map(resolved.presence, rows), strict=True)))
    replaced = zip(*map(resolved.replacements, rows), strict=True)
    return FoundScales(scales, presence, tuple(_reason(of_parts) for of_parts in replaced))


def _reason(of_parts: Sequence[Replacement | None]) -> str:
    return next((replaced.reason for replaced in of_parts if replaced), "")


def _most(values: Presence) -> float | None:
    return max((value for value in values if value is not None), default=None)
