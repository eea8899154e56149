"""Texts as a pipeline's own tokenizer and text encoder have them: concepts to erase, and prompts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from lib_gie.core.concepts import Concept
from lib_gie.core.encoding import EncodedConcept, check_length
from lib_gie.core.scales.scale_rules import UNKNOWN_PROMPT, PromptFacts
from lib_gie.named import repeated_emphasis, times_in, times_named

from .classes import Layout
from .model import tokenizer_of

ENCODING_OPTIONS = ("clip_skip", "lora_scale")
"""Arguments of a pipeline's encoder that say how it encodes; concepts are encoded with the same."""


def concept_tokens(pipe: Any, text: str) -> list[str]:
    """Return the concept's own tokens, as the pipeline's tokenizer splits it, without BOS and EOS.

    A textual inversion counts with all of its vectors, as ``encode_prompt`` takes them.
    """
    check_length(text)
    tokenizer = tokenizer_of(pipe)
    if hasattr(pipe, "maybe_convert_prompt"):
        text = pipe.maybe_convert_prompt(text, tokenizer)
    ids = tokenizer(text, truncation=False, verbose=False).input_ids[1:-1]
    return list(tokenizer.convert_ids_to_tokens(ids))


def encode_concept(pipe: Any, layout: Layout, concept: Concept, options: Mapping[str, Any]) -> EncodedConcept:
    """Encode a concept alone, states [77, D]. ``options``: of ENCODING_OPTIONS, as the prompt's."""
    states = encode_texts(pipe, layout, [concept.text], options)[0][0]  # [77, D]
    return EncodedConcept(concept, states, concept_tokens(pipe, concept.text))


@torch.no_grad()
def encode_texts(
    pipe: Any, layout: Layout, texts: Sequence[str], options: Mapping[str, Any] | None = None
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Return text states [B, 77, D], and of SDXL the pooled ones [B, P], as a pipeline's prompts have them.

    ``options``: of ENCODING_OPTIONS. The method of the class is called: no wrapper must take this for the beginning of
    a generation. Each different text is encoded once.
    """
    different = list(dict.fromkeys(texts))
    encode = getattr(type(pipe), layout.encoder)
    given = {"num_images_per_prompt": 1, "do_classifier_free_guidance": False, **(options or {})}
    encoded = encode(pipe, different, device=pipe._execution_device, **given)
    rows = [different.index(text) for text in texts]
    states: torch.Tensor = encoded if isinstance(encoded, torch.Tensor) else encoded[0]  # [different, 77, D]
    pooled: torch.Tensor | None = encoded[2] if layout.family == "sdxl" else None  # [different, P]
    return states[rows], None if pooled is None else pooled[rows]


def prompt_facts(pipe: Any, concepts: Sequence[Concept], given: Mapping[str, Any], images: int) -> list[PromptFacts]:
    """Return what is known of each image's prompt. ``given``: the arguments by name of the call that encoded it.

    Where only embeddings are given nothing is known, which counts as naming every concept.
    """
    texts = [given.get(name) for name in ("prompt", "prompt_2", "prompt_3")]
    lists = [[text] if isinstance(text, str) else list(text) for text in texts if text is not None]
    if not lists or given.get("prompt_embeds") is not None:
        return [UNKNOWN_PROMPT] * images
    together = [" ".join(parts) for parts in zip(*lists, strict=True)]  # by prompt
    each = images // len(together)
    return [facts for text in together for facts in [_facts(pipe, concepts, text)] * each]


def _facts(pipe: Any, concepts: Sequence[Concept], text: str) -> PromptFacts:
    """Read a diffusers prompt: it has no syntax for emphasis, but it can name a thing often."""

    def ids(of: str) -> list[int]:
        return list(tokenizer_of(pipe)(of, truncation=False, verbose=False).input_ids[1:-1])

    tokens = ids(text)
    times = {
        concept.key: max(times_named(text, concept.text), times_in(tokens, ids(concept.text))) for concept in concepts
    }
    named = frozenset(key for key, found in times.items() if found)
    return PromptFacts(named, repeated_emphasis(max(times.values(), default=1)))
