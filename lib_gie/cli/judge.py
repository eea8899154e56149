"""``python -m lib_gie judge``: how well a judge agrees with the demo model's detector."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from lib_gie.errors import OptionError
from lib_gie.training.judges import DEFAULT_JUDGE, JUDGES, check_judge, make_judge

from .examples import Example
from .pages import around, write_part

EXAMPLES = (
    Example(
        "--seeds 1", "The default judge on the validation prompts, one image each. It takes some minutes on a CPU."
    ),
    Example("--choices", "The figures by which the settings of the default judge were chosen."),
    Example("--set train --json", "On the prompts of the training split, as JSON."),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("--judge", help=f"one of {', '.join(JUDGES)} (default: {DEFAULT_JUDGE})")
    parser.add_argument(
        "--set", default="validation", choices=("train", "validation"), help="split of prompts (default: validation)"
    )
    parser.add_argument("--seeds", type=int, default=1, help="images of each prompt, 1 to 8 (default: 1)")
    parser.add_argument(
        "--choices",
        action="store_true",
        help="print instead the figures by which the settings of the default judge were chosen",
    )
    parser.add_argument(
        "--page", type=Path, metavar="FILE", help="write the table into its part of this Markdown page, too"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(options: argparse.Namespace) -> None:
    """Make the split's images, judge them and compare with the detector."""
    if not 1 <= options.seeds <= 8:
        raise OptionError(f"--seeds is {options.seeds}; a split has 8 seeds for each prompt, give 1 to 8")
    command = f"judge{' --choices' if options.choices else ''} --page docs/ADAPTERS.md"
    if options.page:
        around(options.page, command)  # a page without the part is an error now, not after the work
    from lib_gie.demo.sampling_settings import STEPS
    from lib_gie.evaluation import judging, self_judge_choices
    from lib_gie.hosts.diffusers.image_maker import demo_or_sd_maker

    name = DEFAULT_JUDGE if options.judge is None else options.judge
    if options.choices and (name != self_judge_choices.JUDGE or options.json):
        raise OptionError(f"--choices goes with the judge {self_judge_choices.JUDGE}, and prints a table alone")
    check_judge(name)
    maker = demo_or_sd_maker(None, steps=STEPS)
    make_judge(name, maker, "knife")  # a judge that cannot judge here is an error before the first image
    seen = judging.make_images(maker, judging.jobs_to_judge(options.set, options.seeds))
    found = None if options.choices else judging.agreement(maker, name, seen)
    text = self_judge_choices.choices(maker, seen) if found is None else judging.as_text(found)
    if options.page:
        write_part(options.page, command, text)
    print(json.dumps(judging.as_plain(found)) if options.json and found is not None else text)
