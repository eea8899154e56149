"""``python -m lib_gie demo``: eight prompts, explicit and implicit, without and with erasure, on the demo model."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from ..errors import OptionError

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
"""Prompt, concept, seed; four name the concept, four imply it."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument("--out", type=Path, default=Path("demo-out"), metavar="DIR", help="folder for sheet.png")
    parser.add_argument("--scale", type=float, help="fixed scale (default: the one chosen on validation)")
    parser.add_argument("--prompt", help="one prompt of your own instead of the eight")
    parser.add_argument("--erase", help="what to erase from it")
    parser.add_argument("--seed", type=int, default=11)
    parser.add_argument("--json", action="store_true", help="print a JSON list instead of the table")


def _chosen(options: argparse.Namespace):
    from ..demo.words import unknown_words_message

    if (options.prompt is None) != (options.erase is None):
        raise OptionError("--prompt and --erase go together")
    if options.prompt is None:
        return PROMPTS
    for text, what in ((options.prompt, "prompt"), (options.erase, "concept")):
        message = unknown_words_message(text, what)
        if message:
            raise OptionError(message)
    return ((options.prompt, options.erase, options.seed),)


def run(options: argparse.Namespace) -> None:
    """Make the sheet and print what was found."""
    chosen = _chosen(options)
    from tqdm import tqdm

    from ..demo.detector import detect_image
    from ..demo.fixed_scale import load_fixed_scale
    from ..demo.settings import CFG, SIZE, STEPS
    from ..evaluation.figures import table
    from ..pictures import Row, attention_map, contact_sheet, overlay
    from ..pipeline import load_pipeline
    from ..pipeline.runs import Sampling, erase_pair

    scale = load_fixed_scale() if options.scale is None else options.scale
    pipe = load_pipeline()
    rows, results = [], []
    with tqdm(total=2 * STEPS * len(chosen), desc="demo") as bar:
        for prompt, concept, seed in chosen:
            sampling = Sampling(STEPS, CFG, size=(SIZE, SIZE), seeds=[seed])
            pair = erase_pair(pipe, prompt, concept, sampling, progress=bar.update, scale=scale)
            before, after = pair.before[0], pair.after[0]
            attention = overlay(before, attention_map(pair.watched.recorder, 0, 0, *before.size))
            rows.append(Row(prompt, f"erased: {concept}, scale {scale:g}, seed {seed}", (before, after, attention)))
            found = [", ".join(sorted(detect_image(image))) or "none" for image in (before, after)]
            results.append({"prompt": prompt, "erased": concept, "before": found[0], "after": found[1]})
    sheet = contact_sheet(("without", "with", "attention to it"), rows)
    options.out.mkdir(parents=True, exist_ok=True)
    sheet.save(options.out / "sheet.png")
    if options.json:
        print(json.dumps(results))
        return
    header = ("prompt", "erased concept", "objects without", "objects with")
    print(table(header, [tuple(result.values()) for result in results]))
    print(f"\n{options.out / 'sheet.png'}")
