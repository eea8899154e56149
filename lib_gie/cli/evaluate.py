"""``python -m lib_gie evaluate``: what is left of the erased concept, what is kept, what is unharmed."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lib_gie.assets import DEMO_CHECKPOINT, DEMO_FIXED_SCALE, MODELS
from lib_gie.core.scales.scale_rules import FixedScale
from lib_gie.errors import OptionError
from lib_gie.options import BY_NAME, ErasureSettings

from .arguments import add_options
from .examples import Example
from .outputs import check_file, check_folder, write_file
from .scales import adapter_path

if TYPE_CHECKING:
    from lib_gie.evaluation.comparison import Comparison
    from lib_gie.evaluation.generate import Job

_USUAL = (BY_NAME["concept_pass"].default, BY_NAME["rule"].default)
GRID = (-0.5, -0.75, -1.0, -1.5, -2.0)


EXAMPLES = (
    Example(
        "--seeds 1 --concepts knife --methods none",
        "The quickest: one method, one concept and one seed, which takes some minutes on a CPU.",
    ),
    Example(
        "--adapter demo-knife --concepts knife --keep runs/knife",
        "One adapter on all kinds of prompt. An interrupted run goes on from the folder runs/knife.",
    ),
    Example(
        "--set heldout --keep runs/heldout",
        "All methods on the prompts that nothing was chosen on. Without a GPU it takes long.",
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
    parser.add_argument("--seeds", type=int, default=5, help="seeds of each prompt, 1 to 8 (default: 5)")
    parser.add_argument(
        "--kinds", nargs="+", metavar="KIND", help="kinds of prompt, or all for each of them (default: named implied "
        "unrelated; with --adapter all)"
    )  # fmt: skip
    parser.add_argument("--concepts", nargs="+", help="only the prompts of these things and styles (default: of all)")
    parser.add_argument(
        "--vary", nargs="+", metavar="FACTOR", help="measure instead how erasure depends on concepts (how many "
        "at once), length (of the prompt), position (of the concept in it), steps, cfg"
    )  # fmt: skip
    parser.add_argument("--methods", nargs="+", metavar="NAME", help="what to compare (default: everything there is)")
    parser.add_argument("--scale", type=float, nargs="+", help="measure these fixed scales, and nothing else")
    parser.add_argument(
        "--adapter", nargs="+", help="measure these adapters (files, or names in models/), and nothing else"
    )
    parser.add_argument(
        "--choose-scale",
        action="store_true",
        help="try some fixed scales on validation, and record the best as the demo model's",
    )
    used = parser.add_argument_group("how what --scale and --adapter name is used")
    add_options(used, "strength", "start", "end", "concept_pass", "rule")
    parser.add_argument("--model", help="demo checkpoint to measure (default: the shipped one)")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep outcomes there; a second run goes on from them")
    parser.add_argument(
        "--record", action="store_true", help="with --adapter: write its own concepts' figures into its metadata"
    )
    parser.add_argument("--report", type=Path, metavar="FILE", help="also write the tables as a Markdown page")
    parser.add_argument(
        "--json",
        action="store_true",
        help="print a JSON list with one object per row, and the tables to standard error",
    )


def _suffix(options: argparse.Namespace) -> str:
    values = {name: getattr(options, name) for name in ("strength", "start", "end")}
    parts = [f", {name} {value:g}" for name, value in values.items() if value != BY_NAME[name].default]
    words = [value for value in (options.concept_pass, options.rule) if value not in _USUAL]
    return "".join([*parts, *(f", {word}" for word in words)])


def _names(options: argparse.Namespace) -> list[str]:
    """Return the methods to measure."""
    from lib_gie.demo.fixed_scale import load_fixed_scale
    from lib_gie.evaluation.comparison import all_methods
    from lib_gie.evaluation.varied_figures import usual_methods

    if options.choose_scale:
        if options.set != "validation" or options.scale or options.adapter or options.methods:
            raise OptionError("--choose-scale goes with --set validation and without --scale; give these")
        return [f"fixed scale {scale:g}" for scale in GRID]
    own = [f"fixed scale {FixedScale(scale).value:g}" for scale in options.scale or ()]
    own += [f"adapter {adapter_path(name)}" for name in options.adapter or ()]
    chosen = [name + _suffix(options) for name in own] + list(options.methods or ())
    if not chosen and options.vary:
        return _available(usual_methods(load_fixed_scale()))
    if not chosen and _suffix(options):
        raise OptionError(
            "--strength, --start, --end, --concept-pass and --rule go with --scale or --adapter; give one of these"
        )
    return chosen or _available(all_methods(load_fixed_scale()))


def _kinds(options: argparse.Namespace) -> tuple[str, ...]:
    """Return the kinds of prompt to measure on."""
    from lib_gie.demo.world.splits import KINDS
    from lib_gie.evaluation.measures import MAIN

    if not options.kinds:
        return KINDS if options.adapter and not options.vary else MAIN
    unknown = [kind for kind in options.kinds if kind not in (*KINDS, "all")]
    if unknown or options.choose_scale:
        raise OptionError(f"--kinds takes some of {', '.join(KINDS)}, or all, and does not go with --choose-scale")
    return KINDS if "all" in options.kinds else tuple(kind for kind in KINDS if kind in options.kinds)


def _concepts(options: argparse.Namespace) -> set[str]:
    """Return the concepts whose prompts are measured on."""
    from lib_gie.demo.world.concepts import CONCEPTS

    unknown = set(options.concepts or ()) - set(CONCEPTS)
    if unknown or (options.choose_scale and options.concepts):
        raise OptionError(f"--concepts takes some of {', '.join(CONCEPTS)}, and does not go with --choose-scale")
    return set(options.concepts or CONCEPTS)


def _available(names: list[str]) -> list[str]:
    """Leave out the methods whose adapters are not there, and say so on standard error."""
    from lib_gie.demo.world.things import UNWANTED
    from lib_gie.evaluation.comparison import shipped

    files = shipped(MODELS)
    if all(path.is_file() for path in (*(files.single[thing] for thing in UNWANTED), files.joint, files.unseen)):
        return names
    print("models/ does not hold the demo model's adapters; their rows are left out", file=sys.stderr)
    return [name for name in names if "adapter" not in name]


def run(options: argparse.Namespace) -> None:
    """Measure and print."""
    if not 1 <= options.seeds <= 8:
        raise OptionError(f"--seeds is {options.seeds}; a split has 8 seeds for each prompt, give 1 to 8")
    if options.record and (not options.adapter or options.methods or _suffix(options) or options.set == "train"):
        raise OptionError("--record goes with --adapter alone, at its usual strength, and not with --set train")
    chosen = {name: getattr(options, name) for name in ("strength", "start", "end", "concept_pass", "rule")}
    ErasureSettings(**chosen)  # one out of range is an error before the work
    if options.vary:
        _check_factors(options)
    kinds, concepts, names = _kinds(options), _concepts(options), _names(options)
    _check_places(options)
    from lib_gie.demo.fixed_scale import save_fixed_scale
    from lib_gie.evaluation.comparison import Comparison
    from lib_gie.evaluation.measures import jobs_of
    from lib_gie.hosts.diffusers import load_pipeline, processes
    from lib_gie.hosts.diffusers.files import checkpoint_digest

    jobs = [job for job in jobs_of(options.set, options.seeds, kinds) if concepts.issuperset(job.concepts)]
    if not jobs:
        raise OptionError(
            f"no prompt of the kinds {', '.join(kinds)} is for {', '.join(sorted(concepts))} alone; give other --kinds "
            f"or --concepts"
        )
    pipe = load_pipeline(options.model, processes.device())
    model = checkpoint_digest(Path(options.model) if options.model else DEMO_CHECKPOINT)
    if options.vary:
        _vary(options, pipe, jobs, names, model)
        return
    comparison = Comparison(pipe, jobs, names, MODELS, keep=options.keep, model=model)
    comparison.run()
    if not processes.is_first():
        return
    if options.record:
        _record(options, comparison)
    if options.report:
        write_file(options.report, _page(options, comparison).encode())
    print(comparison.as_text(), file=sys.stderr if options.json else sys.stdout)
    if options.json:
        print(json.dumps([row.as_json() for row in comparison.rows]))
    if options.choose_scale:
        best = save_fixed_scale(comparison.fixed_scales())
        print(f"chosen on validation: {best:g}", file=sys.stderr)


def _check_factors(options: argparse.Namespace) -> None:
    """Raise OptionError where what varies is unknown, or goes with nothing that is asked for."""
    from lib_gie.evaluation.variations import FACTORS

    if not set(options.vary) <= FACTORS.keys() or options.kinds or options.record or options.choose_scale:
        raise OptionError(
            f"--vary takes some of {', '.join(FACTORS)}, and does not go with --kinds, --record and --choose-scale"
        )


def _vary(options: argparse.Namespace, pipe: Any, jobs: list[Job], names: list[str], model: str) -> None:
    """Measure in varied settings, and print."""
    from lib_gie.evaluation import varied_figures
    from lib_gie.evaluation.variations import settings_of
    from lib_gie.hosts.diffusers import processes

    settings = settings_of(options.vary, jobs)
    rows = varied_figures.measure(pipe, settings, names, MODELS, keep=options.keep, model=model)
    if not processes.is_first():
        return
    if options.report:
        write_file(options.report, varied_figures.as_page(rows, _command(options), model).encode())
    print(varied_figures.as_text(rows), file=sys.stderr if options.json else sys.stdout)
    if options.json:
        print(json.dumps([row.as_json() for row in rows]))


def _page(options: argparse.Namespace, comparison: Comparison) -> str:
    from lib_gie.evaluation.result_pages import kinds_page, main_page

    page = main_page if comparison.is_of_main_kinds and not options.kinds else kinds_page
    return page(comparison, _command(options))


def _command(options: argparse.Namespace) -> str:
    """Return the command that makes the page anew. Where its outcomes are kept does not matter to it."""
    words = ["python", "-m", "lib_gie", "evaluate", "--set", options.set, "--seeds", str(options.seeds)]
    for name in ("vary", "kinds", "concepts", "methods", "scale", "adapter"):
        given = getattr(options, name)
        words += [f"--{name}", *map(str, given)] if given else []
    for name in ("strength", "start", "end", "concept_pass", "rule"):
        given = getattr(options, name)
        words += [f"--{name.replace('_', '-')}", str(given)] if given != BY_NAME[name].default else []
    words += ["--choose-scale"] if options.choose_scale else []
    words += ["--model", Path(options.model).name] if options.model else []
    return shlex.join([*words, "--report", f"docs/{options.report.name}"])


def _check_places(options: argparse.Namespace) -> None:
    """Raise OptionError where something that this run writes could not be written."""
    if options.report:
        check_file("--report", options.report)
    if options.keep:
        check_folder("--keep", options.keep)
    for name in options.adapter or () if options.record else ():
        check_file("--record", adapter_path(name))
    if options.choose_scale:
        check_file("--choose-scale", DEMO_FIXED_SCALE)


def _record(options: argparse.Namespace, comparison: Comparison) -> None:
    """Write the figures of each adapter into its file."""
    from lib_gie.core.scales.adapter import add_validation

    for name in options.adapter:
        path = adapter_path(name)
        rows = [row.as_json() for row in comparison.rows if row.method == f"adapter {path.stem}"]
        add_validation(path, images={"set": options.set, "seeds": options.seeds, "rows": rows})
