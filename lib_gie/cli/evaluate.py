"""``python -m lib_gie evaluate``: what is left of the erased concept, what is kept, what is unharmed."""

from __future__ import annotations

import argparse
import json
import sys

from ..errors import OptionError
from ..scale import FixedScale

GRID = (-0.5, -0.75, -1.0, -1.5, -2.0)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument(
        "--set", default="validation", choices=("train", "validation", "heldout"), help="split of prompts"
    )
    parser.add_argument("--seeds", type=int, default=3, help="seeds per prompt")
    parser.add_argument("--scale", type=float, nargs="+", help="fixed scales to measure (default: the chosen one)")
    parser.add_argument("--choose-scale", action="store_true", help="try a grid on validation and record the best")
    parser.add_argument("--strength", type=float, default=1.0)
    parser.add_argument("--start", type=float, default=0.0)
    parser.add_argument("--end", type=float, default=1.0)
    parser.add_argument("--concept-pass", default="fused", choices=("fused", "separate"))
    parser.add_argument("--model", help="demo checkpoint to measure (default: the shipped one)")
    parser.add_argument(
        "--json",
        action="store_true",
        help="print a JSON list with one object per row, and the tables to standard error",
    )


def _scales(options: argparse.Namespace) -> list[float]:
    from ..demo.fixed_scale import load_fixed_scale

    if options.choose_scale:
        if options.set != "validation" or options.scale:
            raise OptionError("--choose-scale goes with --set validation and without --scale: nothing else is tuned on")
        return list(GRID)
    return options.scale or [load_fixed_scale()]


def run(options: argparse.Namespace) -> None:
    """Measure and print."""
    for scale in _scales(options):
        FixedScale(scale)
    from ..demo.fixed_scale import save_fixed_scale
    from ..evaluation.erasure import compare, detect_all, format_rows, jobs_of, per_concept, sum_of_errors
    from ..evaluation.figures import table
    from ..pipeline import load_pipeline

    pipe = load_pipeline(options.model)
    jobs = jobs_of(options.set, options.seeds)
    before = detect_all(pipe, jobs, "without erasure")
    rows = compare("none", jobs, before, before)
    shared = {name: getattr(options, name) for name in ("strength", "start", "end", "concept_pass")}
    tried, details = [], {}
    for scale in _scales(options):
        after = detect_all(pipe, jobs, f"scale {scale:g}", {"scale": scale, **shared})
        new = compare(f"fixed scale {scale:g}", jobs, before, after)
        rows += new
        details[scale] = per_concept(jobs, before, after)
        tried.append(
            {"scale": scale, "sum_of_errors": round(sum_of_errors(new), 4), "rows": [r.as_json() for r in new]}
        )
    tables = [format_rows(rows)]
    for scale, concepts in details.items():
        lines = [(concept, share["explicit"], share["implicit"]) for concept, share in concepts.items()]
        tables.append(f"left per concept at scale {scale:g}\n\n" + table(("concept", "explicit", "implicit"), lines))
    print("\n\n".join(tables), file=sys.stderr if options.json else sys.stdout)
    if options.json:
        print(json.dumps([row.as_json() for row in rows]))
    if options.choose_scale:
        best = min(tried, key=lambda entry: entry["sum_of_errors"])
        save_fixed_scale(best["scale"], tried)
        print(f"chosen on validation: {best['scale']:g}", file=sys.stderr)
