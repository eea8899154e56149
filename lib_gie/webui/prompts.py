"""What a prompt of the WebUI says, whatever syntax it is written in: which concepts it names, how it emphasises."""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from typing import Any

from modules import prompt_parser, shared

from ..concepts import Concept
from ..named import repeated_emphasis, times_in, times_named
from ..scale import UNKNOWN_PROMPT, PromptFacts
from .model import vectors_like, word_tokens

_AND = re.compile(r"\bAND\b")
_WEIGHT = re.compile(r"[-+]?(?:\d+(?:\.\d*)?|\.\d+)")
_NO_EMPHASIS = ("None", "Ignore")


def _without_weight(part: str) -> str:
    text, colon, weight = part.rpartition(":")
    return text.rstrip() if colon and _WEIGHT.fullmatch(weight.strip()) else part


def _parts(prompt: str) -> list[str]:
    """Those that AND joins, without their weights.

    The WebUI has taken the tags of LoRAs and their kin out; what looks like one now is encoded as letters.
    """
    return [_without_weight(part) for part in _AND.split(prompt)]


@functools.lru_cache(maxsize=64)
def _stages(part: str, steps: int, hires_steps: int) -> tuple[str, ...]:
    """All texts that a part becomes where it is edited on the way, in the first pass and that of Hires. fix."""
    if "[" not in part:  # nothing is edited, and the host's parser is slow
        return (part,)
    schedules = [
        prompt_parser.get_learned_conditioning_prompt_schedules([part], steps, later, old)
        for later in (None, hires_steps)
        for old in (False, True)
    ]
    return tuple(dict.fromkeys(text for (schedule,) in schedules for _, text in schedule))


def _weighted(stage: str) -> list[tuple[str, float]]:
    """A text taken apart by emphasis, as the WebUI's setting says."""
    if getattr(shared.opts, "emphasis", "Original") == "None":
        return [(stage, 1.0)]
    return [(text, weight) for text, weight in prompt_parser.parse_prompt_attention(stage) if text != "BREAK"]


def emphasis_of(stages: Sequence[str]) -> float:
    """The largest weight in any of these texts; 1 where the setting lets emphasis be without effect."""
    if getattr(shared.opts, "emphasis", "Original") in _NO_EMPHASIS:
        return 1.0
    return max((abs(weight) for stage in stages for text, weight in _weighted(stage) if text.strip()), default=1.0)


def _texts(prompt: str, steps: int, hires_steps: int) -> tuple[list[str], list[str]]:
    """All stages of all parts of a prompt, and everything in which a concept's words may stand."""
    stages = [stage for part in _parts(prompt) for stage in _stages(part, steps, hires_steps)]
    plain = ["".join(text for text, _ in _weighted(stage)) for stage in stages]
    return stages, list(dict.fromkeys([*plain, *stages, prompt]))


def facts_of(prompt: Any, concepts: Sequence[Concept], model: Any, steps: int, hires_steps: int) -> PromptFacts:
    """What is known of one image's prompt, all its parts and stages together; what is no text is unknown."""
    if not isinstance(prompt, str):
        return UNKNOWN_PROMPT
    stages, texts = _texts(prompt, max(1, steps), max(1, hires_steps))
    tokens = [word_tokens(text, model) for text in texts]
    times = {}
    for concept in concepts:
        own = word_tokens(concept.text, model)
        # letters that only a tokenizer takes for the words, and words that it takes for others, count as well
        pairs = zip(texts, tokens, strict=True)
        named = max(max(times_named(text, concept.text), times_in(ids, own)) for text, ids in pairs)
        # a textual inversion can be the same words under another name
        times[concept.key] = named + max(vectors_like(text, concept.text, model) for text in texts)
    named = frozenset(key for key, found in times.items() if found)
    return PromptFacts(named, emphasis_of(stages) * repeated_emphasis(max(times.values(), default=1)))
