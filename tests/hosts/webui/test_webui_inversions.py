"""Textual inversions in a concept, on the fake host: all vectors in their places, encoded anew when they change."""

from __future__ import annotations

import importlib
from types import SimpleNamespace

import pytest
import torch
from fake_host import TextEncoder
from test_webui_glue import ON, host  # noqa: F401

WORD = 2 + sum(map(ord, "style"))


class Database:
    """The WebUI's, with one textual inversion of three vectors whose name is one token."""

    def __init__(self):
        self.embedding = SimpleNamespace(name="style", vec=torch.ones(3, 24), vectors=3)
        self.ids_lookup = {WORD: [([WORD], self.embedding)]}

    def find_embedding_at_position(self, tokens, offset):
        return (self.embedding, 1) if tokens[offset] in self.ids_lookup else (None, None)


@pytest.fixture
def encoder(host) -> TextEncoder:  # noqa: F811
    found = host.shared.sd_model.cond_stage_model
    found.hijack.embedding_db = Database()
    found.fixed = []
    plain = found.process_tokens

    def process_tokens(rows, multipliers):
        found.fixed.append(found.hijack.fixes)
        found.hijack.fixes = None
        return plain(rows, multipliers)

    found.process_tokens = process_tokens
    return found


def test_every_vector_is_a_token_in_its_place(host, encoder):  # noqa: F811
    model = importlib.import_module("lib_gie.hosts.webui.host.model")
    concepts = importlib.import_module("lib_gie.core.concepts")
    encoded = model.encode_concept(concepts.Concept("in style of"), host.shared.sd_model)
    assert len(encoded.tokens) == encoded.count == 5
    assert encoded.tokens[1:4] == ["style[1]", "style[2]", "style[3]"]
    row = encoder.encoded[-1]
    assert row[2:5] == [0, 0, 0]
    assert len(row) == 77
    assert encoder.fixed == [[[(1, encoder.hijack.embedding_db.embedding)]]]
    assert model.split_tokens("in style of", host.shared.sd_model)[1] == encoded.tokens


def test_fixes_of_the_prompt_do_not_get_into_a_concept(host, encoder):  # noqa: F811
    encoder.hijack.fixes = ["the prompt's"]
    host.process(ON)
    assert encoder.fixed[0] is None


def test_encoded_anew_when_the_vectors_change(host, encoder):  # noqa: F811
    args, database = [True, "style", *ON[2:]], encoder.hijack.embedding_db
    host.process(args)
    host.process(args)
    assert len(encoder.encoded) == 1
    database.embedding.vec.mul_(2)  # it is being trained
    host.process(args)
    assert len(encoder.encoded) == 2
    database.embedding.vec = torch.ones(3, 24)  # its file was read again
    host.process(args)
    assert len(encoder.encoded) == 3
    database.ids_lookup = {}  # its file is gone
    host.process(args)
    assert len(encoder.encoded) == 4
    assert encoder.encoded[-1][1] == WORD


def test_too_many_vectors_are_refused(host, encoder):  # noqa: F811
    encoder.hijack.embedding_db.embedding.vectors = 76
    with pytest.raises(Exception, match="76 tokens"):
        host.process([True, "style", *ON[2:]])
