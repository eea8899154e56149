"""Which rows of a pipeline's UNet calls are the prompts'."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from lib_gie.core.announced import Name
from lib_gie.core.call import UNetCall
from lib_gie.core.concepts import Concept
from lib_gie.core.scales.scale_rules import ScaleRule
from lib_gie.errors import ErasureError
from lib_gie.options import ErasureSettings

from .classes import NEGATIVE, PROMPT, Layout


@dataclass(frozen=True, eq=False)
class Wish:
    """What every call of a pipeline is to erase.

    ``rules``: one for each concept. ``rows_known``: whether the class is one of diffusers' own.
    """

    concepts: tuple[Concept, ...]
    rules: tuple[ScaleRule, ...]
    settings: ErasureSettings
    layout: Layout
    rows_known: bool


class PromptRows:
    """The prompts of one call of a pipeline, as they were ``encoded``: (prompt, negative, ...) or all groups in one."""

    def __init__(self, pipe: Any, wish: Wish, encoded: Any):
        if isinstance(encoded, torch.Tensor):
            groups = wish.layout.guided if pipe.do_classifier_free_guidance else (PROMPT,)
            contexts = dict(zip(groups, encoded.chunk(len(groups)), strict=True))
        else:
            contexts = {PROMPT: encoded[0], NEGATIVE: encoded[1]}
        self._contexts = {group: context for group, context in contexts.items() if context is not None}
        self.images = len(self._contexts[PROMPT])
        self._pipe, self._wish = pipe, wish
        self._checked: tuple[torch.Tensor, int] | None = None  # the context that was looked at last, and its version

    @property
    def given(self) -> torch.Tensor | None:
        """The context [rows, L, D] of the last call that was looked at."""
        return None if self._checked is None else self._checked[0]

    def names(self, call: UNetCall, is_first: bool) -> list[Name]:
        """Return the names of a UNet call's rows. ``is_first``: whether it is the first step's.

        Raises ErasureError where the rows are not what the prompts were encoded to.
        """
        groups = self._groups(call.batch)
        self._check_contents(groups, call.context, is_first)
        return [image if group == PROMPT else None for group in groups for image in range(self.images)]

    def _groups(self, batch: int) -> tuple[str, ...]:
        """Return the groups of rows in a UNet call. Raises ErasureError where they do not fit the guidance."""
        layout = self._wish.layout
        perturbed = layout.perturbs and self._pipe.do_perturbed_attention_guidance
        guided = getattr(self._pipe, "do_classifier_free_guidance", None)
        tried = (True, False) if guided is None else (guided,)  # some keep it to themselves; the rows show it
        for choice in tried:
            groups = layout.groups(choice, perturbed)
            if batch == len(groups) * self.images:
                return groups
        raise ErasureError(
            f"the UNet was called with {batch} rows for {self.images} images "
            f"{'with' if tried[0] else 'without'} guidance; growth inhibitors do not know such batches: use a "
            f"pipeline that docs/COMPATIBILITY.md lists"
        )

    def _check_contents(self, groups: Sequence[str], context: torch.Tensor, is_first: bool) -> None:
        """Raise ErasureError where a group's rows of ``context`` [rows, L, D] are not what its prompts are.

        In a later step a callback may have brought other prompts in; then they must not be those of another group.
        """
        version = -1 if context.is_inference() else context._version
        if self._checked is not None and self._checked[0] is context and self._checked[1] == version != -1:
            return  # the same memory, and nothing has written to it since
        for group, rows in zip(groups, context.chunk(len(groups)), strict=True):
            same = {name for name, expected in self._contexts.items() if is_equal(expected, rows)}
            if group not in same and (same or is_first or not self._wish.rows_known):
                raise ErasureError(
                    f"the UNet was called with other rows than {type(self._pipe).__name__} encoded where the {group} "
                    f"ones belong, so it is unknown which to erase from; something changes the prompts between "
                    f"{self._wish.layout.encoder} and the UNet: switch it off, or give its result as prompt_embeds"
                )
        self._checked = context, version


def is_equal(expected: torch.Tensor, rows: torch.Tensor) -> bool:
    """Tell whether both are the same, as far as the dtype of ``rows`` can tell."""
    if expected.shape != rows.shape:
        return False
    return _is_same_memory(expected, rows) or torch.equal(expected.to(rows), rows)


def _is_same_memory(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Tell whether tensors of one shape are the same memory, as compiled code makes them; no device is waited for."""
    return (one.data_ptr(), one.stride(), one.dtype) == (other.data_ptr(), other.stride(), other.dtype)
