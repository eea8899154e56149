"""``python -m lib_gie quality``: does the demo model draw what it is asked for, do its words carry their meaning?"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from lib_gie.errors import OptionError
from lib_gie.evaluation import model_quality

from .arguments import check_sampling
from .examples import Example
from .outputs import check_file

EXAMPLES = (
    Example(
        "--seeds 1", "The shipped demo model on the validation prompts, one image each. It takes some minutes on a CPU."
    ),
    Example("--set heldout --json", "On the held-out prompts, as JSON."),
    Example(
        "--model my-demo.safetensors --record",
        "This needs a demo checkpoint that you trained (python -m lib_gie.demo.train).",
    ),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument(
        "--set",
        default="validation",
        choices=("train", "validation", "heldout"),
        help="split of prompts (default: validation)",
    )
    parser.add_argument("--seeds", type=int, default=3, help="seeds of each prompt, 1 to 8 (default: 3)")
    parser.add_argument("--cfg", type=float, help="CFG scale (default: the one that all figures are made with)")
    parser.add_argument("--model", help="demo checkpoint to measure (default: the shipped one)")
    parser.add_argument("--record", action="store_true", help="write the figures into the checkpoint's metadata")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of tables")


def run(options: argparse.Namespace) -> None:
    """Measure and print."""
    if not 1 <= options.seeds <= 8:
        raise OptionError(f"--seeds is {options.seeds}; a split has 8 seeds for each prompt, give 1 to 8")
    check_sampling(options.cfg)
    from lib_gie.assets import DEMO_CHECKPOINT
    from lib_gie.demo.export import add_metadata
    from lib_gie.hosts.diffusers import load_pipeline, processes

    if options.record:
        check_file("--record", Path(options.model or DEMO_CHECKPOINT))
    pipe = load_pipeline(options.model, processes.device())
    report = model_quality.measure(pipe, options.set, options.seeds, options.cfg)
    if options.record:
        figures = {"set": options.set, "seeds": options.seeds, **report.as_json()}
        add_metadata(Path(options.model or DEMO_CHECKPOINT), figures=json.dumps(figures))
    print(json.dumps(report.as_json()) if options.json else report.as_text())
