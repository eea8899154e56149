"""Prompts that are longer than the text encoder's context: their states are made chunk by chunk, as the WebUI does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

ROOM = 75
"""Tokens of a text that one chunk holds, beside BOS and EOS."""


def own_tokens(tokenizer: Any, text: str) -> list[int]:
    """Return a text's tokens without BOS and EOS, however many."""
    return list(tokenizer(text, truncation=False, verbose=False).input_ids[1:-1])


def chunk_count(tokenizer: Any, texts: Sequence[str]) -> int:
    """Return how many chunks the longest of the texts needs, at least 1."""
    return max(1, *(-(-len(own_tokens(tokenizer, text)) // ROOM) for text in texts))


@torch.no_grad()
def states_of(pipe: Any, texts: Sequence[str], chunks: int) -> torch.Tensor:
    """Return text states [B, 77 * chunks, D]. Shorter texts get empty chunks; what has no room is cut off.

    The text encoder is called as such, so that nothing takes this for the beginning of a pipeline's call.
    """
    tokenizer = pipe.tokenizer
    rows = []
    for text in texts:
        own = own_tokens(tokenizer, text)
        for start in range(0, ROOM * chunks, ROOM):
            part = [tokenizer.bos_token_id, *own[start : start + ROOM], tokenizer.eos_token_id]
            rows.append(part + [tokenizer.pad_token_id] * (ROOM + 2 - len(part)))
    ids = torch.tensor(rows, device=pipe._execution_device)  # [B * chunks, 77]
    states: torch.Tensor = pipe.text_encoder(ids)[0]  # [B * chunks, 77, D]
    return states.reshape(len(texts), -1, states.shape[-1])  # [B, 77 * chunks, D]
