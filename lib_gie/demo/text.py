"""The demo model's text encoder: SD 1.x's causal CLIP architecture and tokenizer, 128 wide, three layers.

It is trained on the few tokens of the demo world and written out with the whole vocabulary. The other tokens'
embeddings are zero.
"""

from __future__ import annotations

import re

import torch
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from lib_gie.assets import DEMO_TEXT_ENCODER

from .world.captions import words

VOCABULARY = 49408
WIDTH = 128
LAYERS = 3
HEADS = 4
LENGTH = 77
_WORDS = re.compile(r"[a-z]+|,")


def load_tokenizer() -> CLIPTokenizer:
    """Load the standard CLIP tokenizer of SD 1.x from this project's files."""
    return CLIPTokenizer.from_pretrained(DEMO_TEXT_ENCODER, local_files_only=True)


def build_text_encoder(vocabulary: int) -> CLIPTextModel:
    """Return an untrained text encoder for this many tokens. The last is EOS and the last but one BOS."""
    config = CLIPTextConfig(
        vocab_size=vocabulary,
        hidden_size=WIDTH,
        intermediate_size=4 * WIDTH,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        max_position_embeddings=LENGTH,
        hidden_act="quick_gelu",
        bos_token_id=vocabulary - 2,
        eos_token_id=vocabulary - 1,
        pad_token_id=vocabulary - 1,
    )
    return CLIPTextModel(config)


class ReducedVocabulary:
    """The demo world's tokens, renumbered without gaps; BOS and EOS come last, as in CLIP."""

    def __init__(self, tokenizer: CLIPTokenizer):
        self.tokenizer = tokenizer
        used = {token for word in (*words(), ",") for token in self._ids(word)}
        self.tokens = [*sorted(used), tokenizer.bos_token_id, tokenizer.eos_token_id]
        index = {token: place for place, token in enumerate(self.tokens)}
        self._known = {word: tuple(index[token] for token in self._ids(word)) for word in (*words(), ",")}

    def __len__(self) -> int:
        return len(self.tokens)

    def _ids(self, text: str) -> list[int]:
        return self.tokenizer(text).input_ids[1:-1]

    def renumbered(self, caption: str) -> list[int]:
        """Return a caption's tokens, renumbered, without BOS and EOS. Raises KeyError for words of no caption.

        CLIP's tokenizer takes words and commas one by one, so each is looked up; a caption costs microseconds.
        """
        return [token for word in _WORDS.findall(caption) for token in self._known[word]]

    def encode(self, captions: list[str], length: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return renumbered tokens, int64 [B, length], and the position of EOS, int64 [B].

        Raises ValueError for captions that are longer.
        """
        eos = len(self) - 1
        ids = torch.full((len(captions), length), eos)  # [B, length]
        ends = torch.empty(len(captions), dtype=torch.long)  # [B]
        for row, caption in enumerate(captions):
            tokens = [eos - 1, *self.renumbered(caption)]
            if len(tokens) >= length:
                raise ValueError(f"caption has {len(tokens) + 1} tokens, room is for {length}: {caption!r}")
            ids[row, : len(tokens)] = torch.tensor(tokens)
            ends[row] = len(tokens)
        return ids, ends

    def expand(self, embedding: torch.Tensor) -> torch.Tensor:
        """Return token embeddings of the whole vocabulary, [49408, width]: zero for tokens outside the demo world."""
        full = embedding.new_zeros(VOCABULARY, embedding.shape[1])  # [49408, width]
        full[torch.tensor(self.tokens)] = embedding
        return full

    def reduce(self, embedding: torch.Tensor) -> torch.Tensor:
        """Undo ``expand``: [49408, width] -> [tokens, width]."""
        return embedding[torch.tensor(self.tokens)]
