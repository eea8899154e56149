"""A textual inversion as a concept takes all of its vectors: three that are the tokens of "syringe" are "syringe"."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from lib_gie.errors import ConceptError
from lib_gie.hosts.diffusers import GrowthInhibitors, load_pipeline
from lib_gie.hosts.diffusers.texts import concept_tokens

WORD, NAME = "syringe", "gietest"


@pytest.fixture(scope="module")
def pipe(tmp_path_factory):
    """The demo model with three embeddings of one vector for each of the word's tokens, of one and of 76."""
    pipe, folder = load_pipeline(), tmp_path_factory.mktemp("embeddings")
    ids = pipe.tokenizer(WORD).input_ids[1:-1]
    vectors = pipe.text_encoder.get_input_embeddings().weight[ids].detach().clone()  # [n, D]
    for name, values in ((NAME, vectors), ("gieone", vectors[:1]), ("giemany", vectors[:1].repeat(76, 1))):
        save_file({"emb_params": values.contiguous()}, folder / f"{name}.safetensors")
        pipe.load_textual_inversion(str(folder / f"{name}.safetensors"), token=name)
    assert len(ids) == 3
    return pipe


def _image(pipe, concept: str):
    with GrowthInhibitors(pipe, concept, scale=-1.0) as erasure:
        image = pipe(
            "a syringe on a red background", num_inference_steps=4, guidance_scale=4.0, width=64, height=64,
            generator=torch.Generator().manual_seed(3),
        ).images[0]  # fmt: skip
    return np.asarray(image), [len(values) for values in erasure.scales[0]]


def test_all_vectors_are_tokens(pipe):
    assert concept_tokens(pipe, NAME) == [NAME, f"{NAME}_1", f"{NAME}_2"]
    assert len(concept_tokens(pipe, f"a {NAME} and gieone")) == 6


def test_three_vectors_are_the_word(pipe):
    word, tokens = _image(pipe, WORD)
    inversion, own = _image(pipe, NAME)
    assert tokens == own == [3]
    assert np.array_equal(word, inversion)
    assert not np.array_equal(_image(pipe, "gieone")[0], word)


def test_an_inversion_of_too_many_vectors_is_refused(pipe):
    with pytest.raises(ConceptError, match="76 tokens; at most 75"):
        GrowthInhibitors(pipe, "giemany", scale=-1.0)
