"""``python -m lib_gie demo``: twelve prompts, without and with erasure, on the demo model."""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lib_gie.core.concepts import Concept
from lib_gie.core.scales.scale_rules import FixedScale
from lib_gie.errors import OptionError
from lib_gie.options import BY_NAME

from .arguments import check_sampling
from .concepts import one_concept
from .examples import Example
from .outputs import check_folder, png, write_files
from .scales import Choice, add_automatic, choose_scales, given_choice, setters
from .sights import shown_in

PROMPTS = (
    ("a cat and a knife on a teal background", "knife", 11),
    ("a tree and a rapier", "sword", 14),
    ("a book next to a cigarette", "cigarette", 15),
    ("a tree with a skull on a blue background", "skull", 16),
    ("beer next to a car", "beer", 16),
    ("a romantic dinner on a pink background", "wine", 17),
    ("a demolition on a green background", "bomb", 19),
    ("a vet visit on a purple background", "syringe", 20),
    ("a pencil sketch of a cat and a book", "pencil sketch", 31),
    ("a neon sign of a cat and a knife", "knife", 22),
    ("a banana and an umbrella", "banana", 36),
    ("a picnic", "banana", 7),
)
"""Prompt, concept, seed.

Eight are about things that an adapter was trained for: five name the thing, one of them by another word, and three
imply it. Then a style is erased, and a thing from a picture in a style. No adapter is for the last two: they are
calibrated. The seeds are chosen: without erasure the images show what their prompts say, and with it the rest of that.
How often that is so is for ``evaluate`` to say.
"""

SHEET = "sheet.png"
HEADINGS = ("without", "with", "attention without", "attention with")


EXAMPLES = (
    Example(
        "--out demo-out",
        "Twelve prompts; demo-out/sheet.png shows them without and with erasure. It takes some minutes on a CPU.",
    ),
    Example(
        '--prompt "a duel" --erase sword --seed 2',
        "One prompt of your own, in words that the demo model knows (models/demo/README.md lists them).",
    ),
    Example("--scale -1 --json", "The twelve prompts with one fixed scale, as JSON."),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("demo-out"),
        metavar="DIR",
        help=f"folder to write {SHEET} into (default: demo-out)",
    )
    parser.add_argument(
        "--scale",
        type=float,
        help="fixed scale (default: for each concept the adapter that was trained for it, else its calibration)",
    )
    add_automatic(parser)
    parser.add_argument("--prompt", help="one prompt of your own instead of the twelve")
    parser.add_argument("--erase", help="the concept to erase from it")
    parser.add_argument("--seed", type=int, default=11, help="seed of its image (default: 11)")
    parser.add_argument("--json", action="store_true", help="print a JSON list instead of the table")


def _chosen(options: argparse.Namespace):
    from lib_gie.demo.words import unknown_words_message

    if (options.prompt is None) != (options.erase is None):
        raise OptionError("one of --prompt and --erase is missing; give both, or neither")
    if options.prompt is None:
        return PROMPTS
    if not options.prompt.strip():
        raise OptionError("--prompt is empty; say what the image is to show")
    concept = one_concept("--erase", options.erase)
    for text, what in ((options.prompt, "prompt"), (concept, "concept")):
        message = unknown_words_message(text, what)
        if message:
            raise OptionError(message)
    return ((options.prompt, concept, options.seed),)


@dataclass(frozen=True)
class _Made:
    """One prompt's images and maps of the attention to the concept ([H, W]), each without and with erasure.

    ``scale``: w of the concept, the mean of its tokens'. ``set_by``: what has set it, and why.
    """

    prompt: str
    concept: str
    seed: int
    images: tuple[Any, Any]
    attention: tuple[Any, ...]
    choice: Choice
    scale: float
    set_by: tuple[str, str]


def _scales(pipe, chosen, options: argparse.Namespace) -> dict[str, Choice]:
    """Return the scale of each concept, by its text."""
    texts = list(dict.fromkeys(text for _, text, _ in chosen))
    if options.scale is not None:
        return dict.fromkeys(texts, given_choice(FixedScale(options.scale), None))
    concepts = [Concept(text) for text in texts]
    rule = BY_NAME["rule"].default
    return dict(zip(texts, choose_scales(pipe, concepts, rule, not options.no_calibrate), strict=True))


def _make(chosen, options: argparse.Namespace) -> list[_Made]:
    from tqdm import tqdm

    from lib_gie.demo.sampling_settings import CFG, SIZE, STEPS
    from lib_gie.hosts.diffusers import load_pipeline, processes
    from lib_gie.hosts.diffusers.pair import Sampling, erase_pair
    from lib_gie.pictures import attention_map

    pipe, made = load_pipeline(device=processes.device()), []
    choices = _scales(pipe, chosen, options)
    with tqdm(total=2 * STEPS * len(chosen), desc="demo") as bar:
        for prompt, concept, seed in chosen:
            sampling = Sampling(STEPS, CFG, size=(SIZE, SIZE), seeds=[seed])
            choice = choices[concept]
            pair = erase_pair(pipe, prompt, [Concept(concept)], sampling, progress=bar.update, adapter=choice.rule)
            recorders = filter(None, (pair.watched.recorder, pair.eraser.recorder))
            maps = tuple(attention_map(recorder, 0, 0, SIZE, SIZE) for recorder in recorders)
            scale = float(pair.eraser.scales[0][0].mean())
            (set_by,) = setters(pair.eraser, [choice], 1)
            made.append(_Made(prompt, concept, seed, (pair.before[0], pair.after[0]), maps, choice, scale, set_by))
    return made


def _row(one: _Made):
    """Return a prompt's row of the sheet. Both overlays have one scale, so that they can be compared."""
    from lib_gie.pictures import SheetRow, Span, overlay

    span = Span.of(*one.attention)
    overlays = [overlay(image, attention, span) for image, attention in zip(one.images, one.attention, strict=True)]
    note = (
        f"erase: {one.concept}, seed {one.seed}\nscale: {one.scale:.2f}\n{one.set_by[0]}:\n{one.set_by[1]}\n"
        f"attention: grey {100 * span.grey:.0f} %, red {100 * span.red:.0f} %"
    )
    return SheetRow(one.prompt, note, (*one.images, *overlays))


def run(options: argparse.Namespace) -> None:
    """Draw the sheet and print what the images show."""
    check_sampling(seed=options.seed)
    if options.scale is not None:
        FixedScale(options.scale)  # one out of range is an error before the work
    chosen = _chosen(options)
    check_folder("--out", options.out, [SHEET])
    from lib_gie.evaluation.figures import table
    from lib_gie.pictures import contact_sheet

    results, made = [], _make(chosen, options)
    for one in made:
        before, after = (str(shown_in([image])) for image in one.images)
        told = {"scale": round(one.scale, 4), "by": one.choice.by, "set_by": one.set_by[0], "why": one.set_by[1]}
        results.append({"prompt": one.prompt, "erased": one.concept, **told, "before": before, "after": after})
    sheet = contact_sheet(HEADINGS, [_row(one) for one in made])
    write_files(options.out, {SHEET: png(sheet)})
    if options.json:
        print(json.dumps(results))
        return
    header = ("prompt", "erased concept", "scale", "taken from", "why", "shown without", "shown with")
    rows = [[str(value) for name, value in result.items() if name != "by"] for result in results]
    print(table(header, [tuple(row) for row in rows]))
    print(f"\n{options.out / SHEET}")
