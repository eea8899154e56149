"""``python -m lib_gie judge``: how well a judge agrees with the demo model's detector."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from lib_gie.errors import OptionError

from .pages import around, write_part


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument("--judge", default="self", help="which one (default: self)")
    parser.add_argument("--set", default="validation", choices=("train", "validation"), help="split of prompts")
    parser.add_argument("--seeds", type=int, default=1, help="images per prompt, 1 to 8")
    parser.add_argument("--choices", action="store_true", help="what the judge self's timesteps were chosen by")
    parser.add_argument("--page", type=Path, metavar="FILE", help="write it into this Markdown page's tables")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(options: argparse.Namespace) -> None:
    """Make the split's images, let the judge look at them, compare."""
    if not 1 <= options.seeds <= 8:
        raise OptionError(f"--seeds is {options.seeds}; a split has 8 seeds for each prompt, give 1 to 8")
    if options.choices and (options.judge != "self" or options.json):
        raise OptionError("--choices goes with the judge self, and prints a table alone")
    command = f"judge{' --choices' if options.choices else ''} --page docs/ADAPTERS.md"
    if options.page:
        around(options.page, command)  # a page without the part ends here, not after the work
    from lib_gie.demo.settings import STEPS
    from lib_gie.evaluation import judging
    from lib_gie.evaluation.erasure import jobs_of
    from lib_gie.hosts.diffusers.image_maker import demo_or_sd_host
    from lib_gie.training.judges import make_judge
    from lib_gie.training.judges.base import check_judge

    check_judge(options.judge)
    host = demo_or_sd_host(None, steps=STEPS)
    make_judge(options.judge, host, "knife")  # an unknown one ends here, before the first image
    seen = judging.make_images(host, jobs_of(options.set, options.seeds))
    found = None if options.choices else judging.agreement(host, options.judge, seen)
    text = judging.choices(host, seen) if found is None else judging.as_text(found)
    if options.page:
        write_part(options.page, command, text)
    print(json.dumps(judging.as_plain(found)) if options.json else text)
