"""What the prompts of the pass that runs say of the concepts."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import replace
from typing import Any

from modules import shared

from lib_gie.checks import quoted
from lib_gie.core.concepts import Concept
from lib_gie.core.rows import Name
from lib_gie.core.scales.scale_rules import PromptFacts
from lib_gie.errors import ErasureError
from lib_gie.hosts.webui.host.contract import Processing
from lib_gie.hosts.webui.request.prompts import Mode, PromptReading, facts_of


class PassPrompts:
    """What the prompts of the pass that runs say of ``concepts``, read once for each pass."""

    def __init__(self, p: Processing, concepts: Sequence[Concept]):
        self._p, self._concepts = p, concepts
        self._made_of: tuple[Any, ...] | None = None
        self._found: list[PromptFacts] = []  # by image

    def facts(
        self, rows: Sequence[Name], reading: PromptReading | None, clip_skip: Any, unlike: str = ""
    ) -> dict[Hashable, PromptFacts]:
        """Return what is known by row. A row that is left out counts as naming every concept.

        ``reading``: with what the prompts were encoded, if that is known. ``unlike``: what makes the model's state
        unlike the one that calibrations are made in. Raises ErasureError where the concepts were encoded at another
        ``clip_skip``.
        """
        if reading is not None and reading.clip_skip != clip_skip:
            raise ErasureError(
                f"the prompt was read at clip skip {quoted(reading.clip_skip)} and the concepts at "
                f"{quoted(clip_skip)}: somebody has changed it meanwhile. Make the image again"
            )
        p = self._p
        second = bool(getattr(p, "is_hr_pass", False)) and getattr(p, "hr_prompts", None)
        prompts = tuple(second or getattr(p, "prompts", None) or ())
        steps = getattr(p, "steps", None) or 1
        steps = steps, getattr(p, "hr_second_pass_steps", None) or steps
        made_of = prompts, steps, reading or Mode.now()
        if self._made_of != made_of:
            each = {
                text: facts_of(text, self._concepts, shared.sd_model, *steps, reading)
                for text in dict.fromkeys(prompts)
            }
            self._made_of, self._found = made_of, [each[text] for text in prompts]
        named = [row for row in rows if isinstance(row, tuple)]  # (image, part of its prompt)
        found = {row: self._found[row[0]] for row in named if row[0] < len(self._found)}
        return {row: replace(known, unlike=unlike) for row, known in found.items()} if unlike else dict(found)
