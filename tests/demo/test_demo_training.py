"""The demo model's training command, rehearsed with few steps, and what hands its files over."""

from __future__ import annotations

import dataclasses
import json
import sys

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from lib_gie.demo import diffusion, pool, train, vae
from lib_gie.demo.machine import Machine, this_machine
from lib_gie.demo.parts import join, split
from lib_gie.demo.pool import draw_pool
from lib_gie.demo.text import LENGTH, ReducedVocabulary, load_tokenizer
from lib_gie.errors import GieError


@pytest.fixture
def few_steps(monkeypatch):
    monkeypatch.setattr(pool, "CHUNK", 32)
    monkeypatch.setattr(train, "_MEASURED", 32)
    for name in ("FROM_NOTHING", "FURTHER"):
        short = tuple(dataclasses.replace(phase, steps=2, batch=4) for phase in getattr(vae, name))
        monkeypatch.setattr(vae, name, short)
        monkeypatch.setattr(diffusion, name, dataclasses.replace(getattr(diffusion, name), steps=2, batch=4))


def run_command(monkeypatch, *arguments):
    given = ["train", "--pool", "32", "--device", "cpu", *map(str, arguments)]
    monkeypatch.setattr(sys, "argv", given)
    train.main()


def test_the_command_makes_a_checkpoint_and_goes_on_from_it(few_steps, monkeypatch, tmp_path):
    first, again, further = (tmp_path / f"{name}.safetensors" for name in ("first", "again", "further"))
    run_command(monkeypatch, "--state", tmp_path / "a", "--out", first)
    run_command(monkeypatch, "--state", tmp_path / "b", "--out", again)
    made = load_file(first)
    assert all(torch.equal(value, load_file(again)[key]) for key, value in made.items()), "one seed, one file"
    with safe_open(first, "pt") as file:
        training = json.loads(file.metadata()["training"])
    assert (training["seed"], training["steps"], training["size"], training["started_from"]) == (0, 2, 64, None)
    run_command(monkeypatch, "--state", tmp_path / "c", "--out", further, "--start-from", first)
    with safe_open(further, "pt") as file:
        assert json.loads(file.metadata()["training"])["started_from"] == "first.safetensors"
    with pytest.raises(GieError, match="is the state of another training"):
        run_command(monkeypatch, "--state", tmp_path / "a", "--out", again, "--seed", 1)
    key = "model.diffusion_model.input_blocks.0.0.weight"
    assert (load_file(further)[key].float() - made[key].float()).abs().max() < 0.02


def test_images_of_128_pixels(few_steps, monkeypatch, tmp_path):
    path = tmp_path / "large.safetensors"
    run_command(monkeypatch, "--state", tmp_path / "a", "--out", path, "--size", 128, "--parts", tmp_path / "parts")
    join(tmp_path / "parts", tmp_path / "joined.safetensors")
    assert all(part.stat().st_size <= 16_000_000 for part in (tmp_path / "parts").iterdir())
    joined, whole = load_file(tmp_path / "joined.safetensors"), load_file(path)
    assert all(torch.equal(value, joined[key]) for key, value in whole.items()), "after the last step they are the same"
    assert path.stat().st_size < 60_000_000
    assert "resolution: 128" in path.with_suffix(".yaml").read_text()
    assert path.with_suffix(".yaml").read_text().count("image_size: 16") == 2
    assert torch.load(tmp_path / "a" / "latents.pt", weights_only=True)["latents"].shape == (32, 4, 16, 16)


@pytest.fixture(scope="module")
def captions():
    vocabulary = ReducedVocabulary(load_tokenizer())
    pool = draw_pool(4, 256, 64, processes=1)
    return diffusion.Captions(pool, vocabulary), vocabulary, pool


class TestCaptions:
    def said(self, vocabulary, ids, ends):
        assert all(row[0] == len(vocabulary) - 2 for row in ids)
        assert all((row[end:] == len(vocabulary) - 1).all() for row, end in zip(ids, ends, strict=True))
        rows = [row[1:end].tolist() for row, end in zip(ids, ends, strict=True)]
        return [vocabulary.tokenizer.decode([vocabulary.tokens[i] for i in row]) for row in rows]

    def test_some_are_left_out(self, captions):
        drawn, vocabulary, pool = captions
        rng = np.random.default_rng(0)
        said = self.said(vocabulary, *drawn.draw(np.arange(256), rng, share_empty=0.25))
        assert 0.15 < said.count("") / 256 < 0.35
        empty = [text == "" for text, count in zip(said, pool.counts, strict=True) if count == 0]
        full = [text == "" for text, count in zip(said, pool.counts, strict=True) if count > 0]
        assert np.mean(empty) > 3 * np.mean(full) > 0, "an empty caption is to mean an empty image"

    def test_long_ones_keep_what_they_say(self, captions):
        drawn, vocabulary, _ = captions
        rng = np.random.default_rng(0)
        ids, ends = drawn.draw(np.arange(256), rng, share_empty=0.1)
        before = self.said(vocabulary, ids.clone(), ends.clone())
        drawn.lengthen(ids, ends, rng)
        after = self.said(vocabulary, ids, ends)
        assert all(short in long for short, long in zip(before, after, strict=True))
        assert 0.3 < sum(short != long for short, long in zip(before, after, strict=True)) / 256 < 0.6
        assert all(long == "" for short, long in zip(before, after, strict=True) if short == "")
        assert int(ends.max()) > 60

    def test_a_chunk_that_says_nothing(self, captions):
        drawn, vocabulary, _ = captions
        ids, ends = drawn.nothing_said(3, np.random.default_rng(0))
        assert ids.shape == (3, LENGTH)
        assert len(set(self.said(vocabulary, ids, ends))) == 3


def test_the_machine_is_what_is_asked_for():
    assert this_machine("cpu") == Machine(torch.device("cpu"))
    if not torch.cuda.is_available():
        assert this_machine("auto").device.type == "cpu"
    with Machine(torch.device("cpu")).precision():
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32


class TestParts:
    def test_a_file_comes_back_whole(self, tmp_path):
        file, content = tmp_path / "file", bytes(range(256)) * 100
        file.write_bytes(content)
        parts = split(file, tmp_path / "parts", largest=10_000)
        assert [part.stat().st_size for part in parts] == [10_000, 10_000, 5_600]
        join(tmp_path / "parts", tmp_path / "again")
        assert (tmp_path / "again").read_bytes() == content

    @pytest.mark.parametrize("harm", ["lacking", "other", "no index"])
    def test_what_is_not_whole_is_refused(self, harm, tmp_path):
        file = tmp_path / "file"
        file.write_bytes(b"abcdef")
        parts = split(file, tmp_path / "parts", largest=4)
        if harm == "lacking":
            parts[1].unlink()
        elif harm == "other":
            parts[1].write_bytes(b"xy")
        else:
            (tmp_path / "parts" / "parts.json").unlink()
        with pytest.raises(GieError, match="split"):
            join(tmp_path / "parts", tmp_path / "again")
        assert not (tmp_path / "again").exists()
