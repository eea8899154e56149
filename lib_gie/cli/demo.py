"""``python -m lib_gie demo``: eight prompts, explicit and implicit, without and with erasure, on the demo model."""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lib_gie.errors import OptionError

from .outputs import check_folder, png, write_files

PROMPTS = (
    ("a cat and a knife on a teal background", "knife", 11),
    ("a robbery", "knife", 12),
    ("a book next to a cigarette", "cigarette", 13),
    ("a romantic dinner on a pink background", "wine", 14),
    ("a tree with a skull on a blue background", "skull", 15),
    ("a demolition on a green background", "bomb", 16),
    ("beer next to a banana", "beer", 17),
    ("a vet visit on a purple background", "syringe", 18),
)
"""Prompt, concept, seed. Four name the concept, four imply it."""

SHEET = "sheet.png"
HEADINGS = ("without", "with", "attention without", "attention with")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("--out", type=Path, default=Path("demo-out"), metavar="DIR", help=f"folder for {SHEET}")
    parser.add_argument("--scale", type=float, help="fixed scale (default: the one chosen on validation)")
    parser.add_argument("--prompt", help="one prompt of your own instead of the eight")
    parser.add_argument("--erase", help="what to erase from it")
    parser.add_argument("--seed", type=int, default=11)
    parser.add_argument("--json", action="store_true", help="print a JSON list instead of the table")


def _chosen(options: argparse.Namespace):
    from lib_gie.demo.words import unknown_words_message

    if (options.prompt is None) != (options.erase is None):
        raise OptionError("--prompt and --erase go together")
    if options.prompt is None:
        return PROMPTS
    for text, what in ((options.prompt, "prompt"), (options.erase, "concept")):
        message = unknown_words_message(text, what)
        if message:
            raise OptionError(message)
    return ((options.prompt, options.erase, options.seed),)


@dataclass(frozen=True)
class _Made:
    """One prompt's images and maps of the attention to the concept ([H, W]), each without and with erasure."""

    prompt: str
    concept: str
    seed: int
    images: tuple[Any, Any]
    attention: tuple[Any, ...]


def _make(chosen, scale: float) -> list[_Made]:
    from tqdm import tqdm

    from lib_gie.demo.sampling_settings import CFG, SIZE, STEPS
    from lib_gie.hosts.diffusers import load_pipeline
    from lib_gie.hosts.diffusers.pair import Sampling, erase_pair
    from lib_gie.pictures import attention_map

    pipe, made = load_pipeline(), []
    with tqdm(total=2 * STEPS * len(chosen), desc="demo") as bar:
        for prompt, concept, seed in chosen:
            sampling = Sampling(STEPS, CFG, size=(SIZE, SIZE), seeds=[seed])
            pair = erase_pair(pipe, prompt, concept, sampling, progress=bar.update, scale=scale)
            recorders = filter(None, (pair.watched.recorder, pair.eraser.recorder))
            maps = tuple(attention_map(recorder, 0, 0, SIZE, SIZE) for recorder in recorders)
            made.append(_Made(prompt, concept, seed, (pair.before[0], pair.after[0]), maps))
    return made


def _row(one: _Made, scale: float):
    """Return a prompt's row of the sheet. Both overlays have one scale, so that they can be compared."""
    from lib_gie.pictures import SheetRow, Span, overlay

    span = Span.of(*one.attention)
    overlays = [overlay(image, attention, span) for image, attention in zip(one.images, one.attention, strict=True)]
    note = (
        f"erased: {one.concept}\nscale {scale:g}, seed {one.seed}\n"
        f"attention: grey {100 * span.grey:.0f} %, red {100 * span.red:.0f} %"
    )
    return SheetRow(one.prompt, note, (*one.images, *overlays))


def run(options: argparse.Namespace) -> None:
    """Draw the sheet and print which objects the images show."""
    chosen = _chosen(options)
    check_folder("--out", options.out, [SHEET])
    from lib_gie.demo.detector import detect_image
    from lib_gie.demo.fixed_scale import load_fixed_scale
    from lib_gie.evaluation.figures import table
    from lib_gie.pictures import contact_sheet

    scale = load_fixed_scale() if options.scale is None else options.scale
    results, made = [], _make(chosen, scale)
    for one in made:
        before, after = (", ".join(sorted(detect_image(image))) or "none" for image in one.images)
        results.append({"prompt": one.prompt, "erased": one.concept, "before": before, "after": after})
    sheet = contact_sheet(HEADINGS, [_row(one, scale) for one in made])
    write_files(options.out, {SHEET: png(sheet)})
    if options.json:
        print(json.dumps(results))
        return
    header = ("prompt", "erased concept", "objects without", "objects with")
    print(table(header, [tuple(result.values()) for result in results]))
    print(f"\n{options.out / SHEET}")
