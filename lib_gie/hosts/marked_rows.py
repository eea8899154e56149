"""Rows of samplers that divide a step into marked chunks, as those of ComfyUI's and Forge's kind do."""

from __future__ import annotations

from collections.abc import Sequence

from lib_gie.core.call import UNetCall
from lib_gie.core.rows import Name
from lib_gie.errors import ErasureError

CONDITIONAL = 0
"""The mark of a conditional chunk in ``cond_or_uncond``; the unconditional one's is 1."""

_MARKS = "cond_or_uncond"


class MarkedRows:
    """The rows of one step: a chunk of all images for each part of the prompt, and an unconditional one.

    ``parts``: the names of each part's rows, one for each image. A UNet call has any number of chunks;
    ``transformer_options["cond_or_uncond"]`` has a mark for each. Within a step the parts come from the last to the
    first. See ``StepRows``.
    """

    identify = None

    def __init__(self, parts: Sequence[Sequence[Name]]):
        self._images = len(parts[0])
        self._left = list(parts)
        self.names: list[Name] = [name for part in parts for name in part] + [None] * self._images

    def order(self, call: UNetCall) -> list[Name]:
        """Return the names of a UNet call's rows. Raises ErasureError for a call that the step did not announce."""
        marks = (call.kwargs.get("transformer_options") or {}).get(_MARKS)
        if not marks or len(marks) * self._images != call.batch:
            raise ErasureError(
                f"the UNet was called with {call.batch} rows where chunks of {self._images} were expected (marks: "
                f"{marks}), so it is unknown which are conditional. Another extension made this call: switch it off"
            )
        rows: list[Name] = []
        for mark in marks:
            rows += self._next_part() if mark == CONDITIONAL else [None] * self._images
        return rows

    def _next_part(self) -> Sequence[Name]:
        if not self._left:
            raise ErasureError(
                "the UNet was called with more conditional rows than the step has prompts, so it is unknown what they "
                "are. Something else makes calls of its own, self-attention guidance for example: switch it off"
            )
        return self._left.pop()
