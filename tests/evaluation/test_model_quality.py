"""The demo model's quality: what counts as drawn and seen, and what is written into the checkpoint."""

from __future__ import annotations

import argparse
import json
import shutil

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from test_pipeline import build_pipe

from lib_gie.assets import DEMO_CHECKPOINT, DEMO_TEXT_ENCODER
from lib_gie.cli import quality
from lib_gie.core.layers import find_cross_attention
from lib_gie.demo.sampling_settings import SIZE
from lib_gie.demo.world.concepts import CONCEPTS
from lib_gie.demo.world.detector import look
from lib_gie.demo.world.scenes import draw, painted, paste
from lib_gie.demo.world.splits import KINDS, Prompt, load_split
from lib_gie.demo.world.styles import STYLES
from lib_gie.evaluation import measures, model_quality
from lib_gie.evaluation.model_quality import Drawing, Report, detector_figures, drawing_figures, value_norms

CORNERS = [(0, 0), (32, 32)]


def counted(prompt: Prompt, objects: tuple[str, ...], background: str, style: str) -> Drawing:
    """The figures of one image, drawn as it is said here."""
    drawing = Drawing()
    image = draw(objects, background, style, CORNERS[: len(objects)])
    drawing.count(prompt, look(torch.from_numpy(image).permute(2, 0, 1)))
    return drawing


def pair(share) -> tuple[int, int]:
    return share.hits, share.total


TEXT = "a pencil sketch of a knife and a cat on a blue background"
PROMPT = Prompt(TEXT, ("knife", "cat"), "blue", "pencil", "knife", "styled")


def test_an_image_that_shows_what_was_asked_for():
    found = counted(PROMPT, ("cat", "knife"), "blue", "pencil")
    assert pair(found.shown["styled"]) == (2, 2)
    assert pair(found.whole["styled"]) == pair(found.kind_style["styled"]) == (1, 1)
    assert pair(found.style["pencil"]) == pair(found.background["pencil"]) == pair(found.any_background) == (1, 1)
    assert pair(found.by_object["cat"]) == (1, 1)
    assert found.empty.total == found.shown["named"].total == found.style["plain"].total == 0


def test_an_image_that_lacks_all_of_it():
    found = counted(PROMPT, ("dog",), "red", "neon")
    assert pair(found.shown["styled"]) == (0, 2)
    assert pair(found.whole["styled"]) == pair(found.kind_style["styled"]) == (0, 1)
    assert pair(found.style["pencil"]) == pair(found.background["pencil"]) == (0, 1)
    assert found.style["neon"].total == found.by_object["dog"].total == 0


@pytest.mark.parametrize(("objects", "hits"), [((), 1), (("cat",), 0)])
def test_nothing_is_an_empty_image(objects, hits):
    found = counted(Prompt("nothing", (), None, "plain", "knife", "nothing"), objects, "blue", "plain")
    assert pair(found.empty) == (hits, 1)
    assert pair(found.kind_style["nothing"]) == pair(found.style["plain"]) == (1, 1)
    assert found.any_background.total == 0
    assert set(found.whole) == set(KINDS)


@pytest.mark.parametrize(("others", "right"), [(["cat"], True), (["cat", "dog"], False)])
def test_an_image_is_in_the_style_of_half_of_its_objects(others, right):
    """A knife in neon, and other things in plain, on a background of neon."""
    image = draw(("knife",), "blue", "neon", [(0, 0)])
    for name, corner in zip(others, [(32, 32), (32, 0)], strict=False):
        paste(image, painted("plain", SIZE // 2)[name], corner)
    sight = look(torch.from_numpy(image).permute(2, 0, 1))
    assert {find.name: find.style for find in sight.finds} == {"knife": "neon"} | dict.fromkeys(others, "plain")
    assert model_quality.is_in_style(sight, "neon") is right
    assert not model_quality.is_in_style(sight, "plain")


class Untouched(torch.nn.Module):
    """An autoencoder that loses nothing: the latents are the image."""

    class _Posterior:
        def __init__(self, latents):
            self.latents, self.latent_dist, self.sample = latents, self, latents

        def mode(self):
            return self.latents

    encode = decode = _Posterior


def test_the_detector_is_measured_in_every_style():
    pipe = build_pipe()
    blind = detector_figures(pipe, 4)  # its random autoencoder shows nothing
    pipe.vae = Untouched()
    clear = detector_figures(pipe, 4)
    assert tuple(blind) == tuple(clear) == tuple(STYLES)
    for style in STYLES:
        assert blind[style].recall.hits == 0
        assert pair(clear[style].recall) == pair(clear[style].precision) == (blind[style].recall.total,) * 2
        assert pair(clear[style].style) == pair(clear[style].only_style) == (4, 4)
        assert blind[style].decibel < 20 < 100 < clear[style].decibel
    assert sum(seen.only_style.hits for seen in blind.values()) < 4 * len(STYLES)


def test_value_norms_are_what_a_layer_puts_out_for_that_token_alone():
    pipe = build_pipe()
    (found,) = value_norms(pipe, ["pencil sketch"]).values()
    tokens = pipe.tokenizer("pencil sketch", padding="max_length", return_tensors="pt").input_ids
    assert tokens[0, 3] == pipe.tokenizer.eos_token_id
    norms = []
    with torch.no_grad():
        states = pipe.text_encoder(tokens)[0]  # [1, 77, D]
        for place in range(4):
            own = []
            for layer in find_cross_attention(pipe.unet):
                hidden = torch.zeros(1, 1, layer.module.to_q.in_features)
                whole = layer.module(hidden, encoder_hidden_states=states[:, place : place + 1])  # [1, 1, C]
                own.append((whole - layer.out_projection.bias).norm())
            norms.append(float(torch.stack(own).mean()))
    expected = {"bos": norms[0], "word": max(norms[1:3]), "eos": norms[3]}
    assert found == pytest.approx(expected, abs=1e-3)


@pytest.fixture(scope="module")
def few_prompts():
    """One prompt of each kind."""
    return tuple({prompt.kind: prompt for prompt in load_split("validation")[0]}.values())


def test_the_report_has_every_kind_style_and_concept(few_prompts):
    pipe = build_pipe()
    jobs = [model_quality.Job(prompt, 1) for prompt in few_prompts]
    report = Report(drawing_figures(pipe, jobs), detector_figures(pipe, 1), value_norms(pipe))
    plain = json.loads(json.dumps(report.as_json(), allow_nan=False))
    assert set(plain["shown"]) == set(plain["all_objects_shown"]) == set(KINDS)
    assert {kind: share["n"] for kind, share in plain["style_of_kind"].items()} == dict.fromkeys((*KINDS, "nothing"), 1)
    assert set(plain["style"]) == set(plain["background_of_style"]) == set(plain["detector"]) == set(STYLES)
    assert set(plain["value_norms"]) == set(CONCEPTS)
    assert plain["nothing_empty"]["n"] == 1
    text = report.as_text()
    assert all(f"| {name} " in text for name in (*KINDS, "nothing", *STYLES, *CONCEPTS))


@pytest.mark.slow
def test_figures_are_recorded_in_the_checkpoint(tmp_path, monkeypatch, capsys, few_prompts):
    """A copy of the shipped one. Its tensors and all else that it says stay as they are."""
    for suffix in (".safetensors", ".yaml"):
        shutil.copy(DEMO_CHECKPOINT.with_suffix(suffix), tmp_path / f"copy{suffix}")
    shutil.copytree(DEMO_TEXT_ENCODER, tmp_path / "text_encoder")
    path = tmp_path / "copy.safetensors"
    monkeypatch.setattr(measures, "load_split", lambda name: (few_prompts[:3], (2000, 2001)))
    monkeypatch.setattr(model_quality, "_SCENES", 2)
    parser = argparse.ArgumentParser()
    quality.add_arguments(parser)
    quality.run(parser.parse_args(["--model", str(path), "--seeds", "2", "--record", "--json"]))
    printed = json.loads(capsys.readouterr().out)
    with safe_open(path, "pt") as file, safe_open(DEMO_CHECKPOINT, "pt") as before:
        metadata, old = file.metadata(), before.metadata()
    figures = json.loads(metadata.pop("figures"))
    assert {name: figures.pop(name) for name in ("set", "seeds")} == {"set": "validation", "seeds": 2}
    assert figures == printed
    assert sum(share["n"] for share in figures["all_objects_shown"].values()) == 6
    assert metadata == {name: text for name, text in old.items() if name != "figures"}
    tensors, untouched = load_file(path), load_file(DEMO_CHECKPOINT)
    assert tensors.keys() == untouched.keys()
    assert all(torch.equal(tensors[name], untouched[name]) for name in tensors)
