"""Writes a generation's entries into its images' infotexts. The scales are asked for when an image is saved."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lib_gie.core.concepts import Concept
from lib_gie.hosts.webui.request.enforcement import shows_enforced_scale
from lib_gie.hosts.webui.request.infotext import (
    ALL_KEYS,
    ENFORCED,
    ENFORCED_SCALE,
    SCALE,
    concepts_text,
    scales_text,
    write_params,
)
from lib_gie.hosts.webui.sampling.erased_generation import Generation


def clear_parameters(p: Any) -> None:
    """Take out our entries, which ``p`` has from an earlier job where a script uses it, or a copy of it, again."""
    for key in ALL_KEYS:
        p.extra_generation_params.pop(key, None)


def write_parameters(generation: Generation) -> None:
    """Write what the admin enforces and what the user asks for into ``p.extra_generation_params``."""
    params = generation.p.extra_generation_params
    enforced = [number for number, plan in enumerate(generation.plans) if plan.enforced]
    if enforced:
        concepts = [concept for number in enforced for concept in generation.plans[number].request.concepts]
        params[ENFORCED] = concepts_text(list(dict.fromkeys(Concept(one.text, one.weight) for one in concepts)))
        if shows_enforced_scale():
            params[ENFORCED_SCALE] = _scale_writer(generation, *enforced)
    for number, plan in enumerate(generation.plans):
        if not plan.enforced:
            params.update(write_params(plan.request, plan.sources))
            params[SCALE] = _scale_writer(generation, number)


def _scale_writer(generation: Generation, *plans: int) -> Callable[..., str | None]:
    """Return the function that gives an infotext the resolved scales of its image. ``plans``: their numbers.

    The WebUI calls it when it writes an infotext, and leaves the entry out where it returns None.
    """

    def scale(p: Any, index: int, all_seeds: list[int], use_main_prompt: bool, **unused: Any) -> str | None:
        if not use_main_prompt and all_seeds is getattr(p, "seeds", None):
            batch, image = getattr(p, "iteration", 0), index  # the WebUI counts within the batch here
        else:
            batch, image = divmod(index, p.batch_size)
        found = [generation.found(number, batch, image) for number in plans]
        known = [one.scales for one in found if one is not None]
        if len(known) < len(found):
            return None
        return scales_text([[scale for row in rows for scale in row] for rows in zip(*known, strict=True)])

    return scale
