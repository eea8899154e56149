"""Reads the WebUI's prompts, through every syntax they may use: which concepts one names, and its emphasis."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from modules import prompt_parser, shared

from lib_gie.core.concepts import Concept
from lib_gie.core.scales.scale_rules import UNKNOWN_PROMPT, PromptFacts
from lib_gie.hosts.webui.host.model import (
    clip_skip,
    inversions_in,
    inversions_now,
    old_emphasis,
    vectors_like,
    word_tokens,
)
from lib_gie.named import repeated_emphasis, times_in, times_named

_AND = re.compile(r"\bAND\b")
_WEIGHT = re.compile(r"[-+]?(?:\d+(?:\.\d*)?|\.\d+)")
_NO_EMPHASIS = ("None", "Ignore")
_READING = "gie_reading"
_WITH_INVERSION = "the prompt has a textual inversion"


@dataclass(frozen=True)
class Mode:
    """One way of reading emphasis. ``name``: the value of its setting; ``is_old``: by its old implementation."""

    name: str
    is_old: bool

    @classmethod
    def now(cls) -> Mode:
        """Return the mode that the settings say now."""
        is_old = getattr(shared.opts, "use_old_emphasis_implementation", False)
        return cls(getattr(shared.opts, "emphasis", "Original"), bool(is_old))


@dataclass(frozen=True, eq=False)
class PromptReading:
    """The settings that prompts were encoded with, noted because the WebUI keeps encoded prompts for later requests.

    ``modes``: how emphasis was read, before and after the encoding; ``inversions``: see ``inversions_now``;
    ``clip_skip``: as the WebUI counts it; ``steps``, ``hires_steps``: those that prompt editing was resolved for.
    """

    modes: tuple[Mode, ...]
    inversions: Sequence[Any]
    clip_skip: Any
    steps: int
    hires_steps: int | None


def note_reading(
    inner: Any, model: Any, prompts: Any, steps: int, hires_steps: int | None = None, *args: Any, **kwargs: Any
) -> Any:
    """Stand in for ``get_multicond_learned_conditioning``: encode, and note on the result how prompts were read."""
    before, skipped, inversions = Mode.now(), clip_skip(), inversions_now(model)
    made = inner(model, prompts, steps, hires_steps, *args, **kwargs)
    # settings may be changed at any time, also in between
    setattr(made, _READING, PromptReading((before, Mode.now()), inversions, skipped, steps, hires_steps))
    return made


def reading_of(denoiser: Any) -> PromptReading | None:
    """Return how the prompts that a denoiser samples were read; None where that is not known."""
    return getattr(getattr(denoiser.sampler, "sampler_extra_args", {}).get("cond"), _READING, None)


def _without_weight(part: str) -> str:
    text, colon, weight = part.rpartition(":")
    return text.rstrip() if colon and _WEIGHT.fullmatch(weight.strip()) else part


def _parts(prompt: str) -> list[str]:
    """Return the parts that AND joins, without their weights.

    The WebUI has taken out the tags of extra networks such as LoRAs. What looks like one now is encoded as letters.
    """
    return [_without_weight(part) for part in _AND.split(prompt)]


@functools.lru_cache(maxsize=64)
def _stages(part: str, steps: int, hires_steps: int) -> tuple[str, ...]:
    """Return all texts that prompt editing makes of a part, in the first pass and in that of Hires. fix."""
    if "[" not in part:  # nothing is edited, and the host's parser is slow
        return (part,)
    schedules = [
        prompt_parser.get_learned_conditioning_prompt_schedules([part], steps, later, old)
        for later in (None, hires_steps)
        for old in (False, True)
    ]
    return tuple(dict.fromkeys(text for (schedule,) in schedules for _, text in schedule))


def _weighted(stage: str) -> list[tuple[str, float]]:
    """Return the pieces of a text with their weights."""
    return [(text, weight) for text, weight in prompt_parser.parse_prompt_attention(stage) if text != "BREAK"]


def emphasis_of(stages: Sequence[str], model: Any, modes: Iterable[Mode]) -> float:
    """Return the largest weight in any of these texts, read in any of these modes; 1 where weights have no effect."""
    found = [1.0]
    for mode in modes:
        if mode.name not in _NO_EMPHASIS and mode.is_old:
            found += [old_emphasis(stage, model) for stage in stages]
        elif mode.name not in _NO_EMPHASIS:
            found.append(_largest_weight(stages))
    return max(found)


def _largest_weight(stages: Sequence[str]) -> float:
    return max((abs(weight) for stage in stages for text, weight in _weighted(stage) if text.strip()), default=1.0)


def _texts(prompt: str, steps: int, hires_steps: int) -> tuple[list[str], list[str]]:
    """Return all stages of all parts of a prompt, and all texts in which a concept's words may stand."""
    stages = [stage for part in _parts(prompt) for stage in _stages(part, steps, hires_steps)]
    plain = ["".join(text for text, _ in _weighted(stage)) for stage in stages]
    return stages, list(dict.fromkeys([*plain, *stages, prompt]))


def facts_of(
    prompt: Any,
    concepts: Sequence[Concept],
    model: Any,
    steps: int,
    hires_steps: int,
    reading: PromptReading | None = None,
) -> PromptFacts:
    """Return what is known of one image's prompt, all its parts and stages together; what is no text is unknown.

    ``steps``, ``hires_steps``: those of the first pass and of Hires. fix, for prompt editing. ``reading``: how the
    prompt was encoded; None: as it would be now.
    """
    if not isinstance(prompt, str):
        return UNKNOWN_PROMPT
    modes, databases = (reading.modes, reading.inversions) if reading else ((Mode.now(),), None)
    if reading is not None:  # some samplers make two steps of each, and editing was resolved for those
        steps, hires_steps = reading.steps, reading.hires_steps or reading.steps
    stages, texts = _texts(prompt, max(1, steps), max(1, hires_steps))
    tokens = [word_tokens(text, model) for text in texts]
    times = {}
    for concept in concepts:
        own = word_tokens(concept.text, model)
        # both count: the words as a reader sees them, and any letters that the tokenizer takes for them
        pairs = zip(texts, tokens, strict=True)
        found = max(max(times_named(text, concept.text), times_in(ids, own)) for text, ids in pairs)
        # a textual inversion can be the same words under another name
        times[concept.key] = found + max(vectors_like(text, concept.text, model, databases) for text in texts)
    named = frozenset(key for key, count in times.items() if count)
    emphasis = emphasis_of(stages, model, modes)
    unlike = _WITH_INVERSION if any(inversions_in(text, model, databases) for text in texts) else ""
    return PromptFacts(named, emphasis * repeated_emphasis(max(times.values(), default=1)), unlike)
