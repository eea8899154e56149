"""``python -m lib_gie calibrate``: a concept's scale on one checkpoint, found without training."""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

from lib_gie.core.concepts import Concept
from lib_gie.errors import GieError, OptionError

from .concepts import one_concept
from .examples import Example
from .outputs import check_file

_ABOUT = (
    "Finds how strongly a concept must be erased on one checkpoint, and how its presence in a prompt is told. It takes "
    "at most 1,000 UNet evaluations. One evaluation is one run of the UNet for one text; an image of 20 steps with "
    "guidance takes 40, so it is as long as 25 images. What is found is kept, and erase and demo take it. A "
    "calibration that is interrupted goes on where it was, the next time."
)


EXAMPLES = (
    Example("--concept banana", "On the demo model, in some seconds. erase and demo take what is found."),
    Example(
        '--concept "van gogh style" --model sd15.safetensors',
        "This needs a Stable Diffusion 1.x or 2.x checkpoint of yours, here sd15.safetensors.",
    ),
    Example(
        "--concept nudity --prompts nudity --model sd15.safetensors --out nudity.safetensors",
        "The same, with prompts that imply the concept, into a file that a WebUI takes, too.",
    ),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.description = _ABOUT
    parser.add_argument("--concept", required=True, help="one concept, such as: knife")
    parser.add_argument("--model", type=Path, help="SD 1.x or 2.x file or folder (default: the demo model)")
    parser.add_argument(
        "--prompts",
        metavar="LIST",
        help="file or starter list, as train takes them: its prompts under [implicit], 64 at most, help to tell where "
        "the concept is present without being named",
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FILE",
        help="the .safetensors file to write, for --adapter or models/growth-inhibitors/ of a WebUI (default: where "
        "erase, demo and diffusers look for it)",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def _concept(options: argparse.Namespace) -> Concept:
    from lib_gie.demo.words import unknown_words_message
    from lib_gie.hosts.diffusers.loading import is_demo

    text = one_concept("--concept", options.concept)
    message = unknown_words_message(text, "concept") if is_demo(options.model) else ""
    if message:
        raise GieError(message)
    return Concept(text)


def _implied(name: str | None, concept: str) -> list[str]:
    """Return the prompts of a list that imply the concept."""
    from lib_gie.training.prompts import load_prompts
    from lib_gie.training.prompts.reference import MOST_IMPLIED

    if name is None:
        return []
    found = [prompt for prompt, kind in load_prompts(name, concept) if kind == "implicit"]
    if not found:
        raise OptionError(f"--prompts: {name} has no prompts under [implicit]; write some there, or leave it out")
    if len(found) > MOST_IMPLIED:
        print(
            f"warning: {MOST_IMPLIED} of the {len(found)} implied prompts are taken, from all parts of the list",
            file=sys.stderr,
        )
    return found


def run(options: argparse.Namespace) -> None:
    """Calibrate, keep and report."""
    concept = _concept(options)
    implied = _implied(options.prompts, concept.text)
    if options.out is not None:
        if options.out.suffix != ".safetensors":
            raise OptionError(
                f"--out is {options.out.name}; calibrations are .safetensors files, so give a name that ends in "
                f".safetensors"
            )
        check_file("--out", options.out)
    from lib_gie.hosts.diffusers import load_pipeline, processes
    from lib_gie.hosts.diffusers.calibrating import calibrate_now

    pipe = load_pipeline(options.model, processes.device())
    start = time.perf_counter()
    made = calibrate_now(pipe, concept, implied, options.out)
    report = _report(made, time.perf_counter() - start)
    print(json.dumps(report)) if options.json else _print(report)


def _report(made, seconds: float) -> dict:
    """Return the JSON object."""
    info = made.calibration.info
    return {
        "concept": info.concepts[0],
        "strength": info.strength,
        "ramp": [round(score, 4) for score in info.ramp],
        "evaluations": info.training["evaluations"],
        "evaluations_kept": made.spared,
        "implied_prompts": info.training["implied_prompts"],
        "seen_gone": info.training["seen_gone"],
        "warning": info.warning,
        "seconds": round(seconds, 1),
        "weights": info.weights,
        "file": None if made.path is None else str(made.path),
        "not_kept": made.reason,
    }


def _print(report: dict) -> None:
    low, high = report["ramp"]
    print(f"concept: {report['concept']}")
    print(f"strength: {report['strength']:g}")
    print(f"ramp: absent up to the score {low:g}, present in full from {high:g}")
    spared = report["evaluations_kept"]
    kept = f", of which {spared} were kept from an earlier calibration" if spared else ""
    print(f"evaluations: {report['evaluations']} of the UNet, at most 1,000 (one is one run for one text){kept}")
    print(f"seen to be erased: {'yes' if report['seen_gone'] else 'no'}")
    if report["warning"]:
        print(f"warning: {report['warning']}")
    print(f"seconds: {report['seconds']:g}")
    print(report["file"] or f"not kept: {report['not_kept']}")
