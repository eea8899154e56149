"""``python -m lib_gie quality``: does the demo model draw what it is asked for, do its words carry their meaning?"""

from __future__ import annotations

import argparse
import json

from ..evaluation import model_quality


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument(
        "--set", default="validation", choices=("train", "validation", "heldout"), help="split of prompts"
    )
    parser.add_argument("--seeds", type=int, default=3, help="seeds per prompt")
    parser.add_argument("--cfg", type=float, help="CFG scale (default: the one that all figures are made with)")
    parser.add_argument("--model", help="demo checkpoint to measure (default: the shipped one)")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of tables")


def run(options: argparse.Namespace) -> None:
    """Measure and print."""
    from ..pipeline import load_pipeline

    report = model_quality.measure(load_pipeline(options.model), options.set, options.seeds, options.cfg)
    print(json.dumps(report.as_json()) if options.json else report.as_text())
