"""A concept as the text encoder sees it: states of its own context and the positions of its own tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from lib_gie.checks import quoted
from lib_gie.errors import ConceptError

from .concepts import MAX_TOKENS, Concept

MOST_CHARACTERS = 1000
"""Of one concept. 75 tokens have fewer, and a tokenizer's time grows with the square of a word's length."""


def check_length(text: str) -> None:
    """Raise ConceptError for a text that is too long to be tokenized."""
    if len(text) > MOST_CHARACTERS:
        raise ConceptError(
            f"the concept {quoted(text)} has {len(text):,} characters; at most {MAX_TOKENS} tokens fit, so shorten it"
        )


def check_token_count(text: str, count: int) -> None:
    """Raise ConceptError unless a concept of ``count`` tokens (without BOS and EOS) fits into one context."""
    if count > MAX_TOKENS:
        raise ConceptError(f"the concept {quoted(text)} has {count} tokens; at most {MAX_TOKENS} fit, so shorten it")
    if count < 1:
        raise ConceptError(f"the concept {quoted(text)} has no tokens; name what is to be erased, for example: knife")


@dataclass(frozen=True, eq=False)
class EncodedConcept:
    """A concept encoded on its own (c* of the paper, section 3.2).

    ``states``: float [L, D], the text encoder's output for the concept alone, L being 77 for CLIP.
    ``tokens``: the concept's own n tokens, which are positions 1..n of ``states`` (C in the formulas).
    ``key_states``, ``value_states``: what the layers make K* and V* of where that is something else than ``states``
    (the WebUI's hypernetworks), of the same shape.
    """

    concept: Concept
    states: torch.Tensor
    tokens: Sequence[str]
    key_states: torch.Tensor | None = None
    value_states: torch.Tensor | None = None

    def __post_init__(self) -> None:
        check_token_count(self.concept.text, len(self.tokens))
        if self.states.ndim != 2 or self.states.shape[0] < len(self.tokens) + 1:
            raise ConceptError(
                f"the states of {quoted(self.concept.text)} have shape {list(self.states.shape)}; "
                f"expected [L, D] with L of at least {len(self.tokens) + 1}"
            )

    @property
    def count(self) -> int:
        """n, the number of the concept's own tokens."""
        return len(self.tokens)

    @property
    def span(self) -> slice:
        """The positions of the concept's own tokens: without BOS, EOS and padding."""
        return slice(1, 1 + self.count)
