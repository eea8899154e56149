"""``python -m lib_gie train``: labels for a concept's prompts, then an adapter fitted to them."""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import shlex
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from lib_gie.assets import own_folder
from lib_gie.errors import OptionError
from lib_gie.training.judges import DEFAULT_JUDGE, JUDGES, check_judge, make_judge, usual_judge

from .arguments import check_number, check_sampling
from .concepts import bare_concepts
from .examples import Example
from .outputs import check_file, check_folder
from .steps import Steps
from .training_told import say_extent, taken_text, trial

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lib_gie.core.scales.calibrated import Calibration
    from lib_gie.training.fitting import PromptInputs, Recipe
    from lib_gie.training.image_maker import ImageMaker
    from lib_gie.training.judges import Judge
    from lib_gie.training.labels import Label, Sample
    from lib_gie.training.presumption import Presumption


_JUDGE_HELP = (
    f"who says whether an image shows the concept: {', '.join(JUDGES)} (default: on the demo model its detector, else "
    f"{DEFAULT_JUDGE})"
)

_OTHER_SEEDS = 1000
"""Seeds, from 0, of the prompts that are in no split. The splits' seeds are above them."""


EXAMPLES = (
    Example(
        "--concept knife --out my-knife --seeds 1",
        "On the demo model, with its own prompts: models/my-knife.safetensors. On two CPU cores it takes some minutes.",
    ),
    Example(
        "--concept nudity --prompts nudity --model sd15.safetensors --out my-nudity",
        "This needs a Stable Diffusion 1.x checkpoint of yours, here sd15.safetensors, and better a GPU.",
    ),
    Example(
        "--concept lamp --prompts lamp.txt --model sd15.safetensors --judge hand --out lamp.safetensors",
        "This needs a checkpoint and a file of prompts; you say on a page whether a lamp shows.",
    ),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("--concept", required=True, help="one concept, or several for a joint adapter: knife, wine")
    parser.add_argument(
        "--prompts",
        help="file with one prompt a line, in sections that lines head: [explicit] (and before any such line) for "
        "those that name the concept, for which {concept} may stand, [implicit] for those that only imply it, "
        "[unrelated] for those without it, [unrelated unless named] for those of which the ones that name it are left "
        "out; or a starter list's name (default on the demo model: its own)",
    )
    parser.add_argument(
        "--out",
        required=True,
        metavar="NAME",
        help="name of the adapter in models/ (in the current folder where lib-gie is installed as a package), or the "
        "path of a .safetensors file",
    )
    parser.add_argument("--replace", action="store_true", help="let the new adapter take the place of one of that name")
    parser.add_argument("--model", type=Path, help="SD 1.x or 2.x file or folder (default: the demo model)")
    parser.add_argument("--judge", help=_JUDGE_HELP)
    parser.add_argument("--seeds", type=int, default=4, help="images of each prompt (default: 4)")
    parser.add_argument("--steps", type=int, default=20, help="sampling steps (default: 20)")
    parser.add_argument("--cfg", type=float, help="CFG scale (default: 4 on the demo model, else 7)")
    parser.add_argument("--batch", type=int, default=24, help="images made at once (default: 24)")
    _add_fit_arguments(parser)
    parser.add_argument(
        "--labels",
        type=Path,
        default=Path("runs/labels"),
        metavar="DIR",
        help="folder that keeps labels between runs (default: runs/labels)",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def _add_fit_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what says how labels are made and fitted."""
    parser.add_argument("--epochs", type=int, default=2000, help="passes over all labels in the fit (default: 2000)")
    parser.add_argument(
        "--recipe",
        default="own",
        choices=("own", "paper"),
        help="how labels are fitted: this project's way or the paper's (default: own)",
    )
    parser.add_argument(
        "--own",
        nargs="+",
        choices=("label", "inputs", "loss", "regularisation", "steepness"),
        help="with --recipe paper: parts of this project's recipe that are taken nevertheless, to see what each is for",
    )
    parser.add_argument(
        "--label",
        default=None,
        choices=("doubtful", "all"),
        help="doubtful: calibrate the concept first, and make images of those prompts of which the calibration is not "
        "sure and of some others, until that no longer helps; all: of every prompt (default: doubtful, and all with "
        "--recipe paper)",
    )
    parser.add_argument(
        "--read-at",
        default="full",
        choices=("full", "half"),
        help="size of the noise that the adapter reads a prompt from: that of the image, or half its sides, which is "
        "quicker for every new prompt, but beside ControlNet and extensions for regions the fixed scale is used then",
    )
    parser.add_argument("--margin", type=float, help="factor on labels, 1 to 10 (default: the recipe's)")
    parser.add_argument(
        "--steepness",
        type=float,
        help="factor by which weak answers of the adapter are lifted, 1 to 10 (default: the recipe's)",
    )
    parser.add_argument(
        "--leave-out",
        metavar="TEXT",
        help="train on no prompt that has this text, to see afterwards what the adapter makes of such prompts",
    )


def _samples(options: argparse.Namespace, concept: str, demo: bool) -> list[Sample]:
    from lib_gie.training.prompts import load_prompts, samples_of

    if demo:
        _check_concept(concept)
    if options.prompts is not None:
        prompts = load_prompts(options.prompts, concept)
        _check_list(options.prompts, concept, demo)
        _check_prompts(prompts, concept, demo)
        return samples_of(prompts, range(options.seeds))
    if not demo:
        raise OptionError(
            "--prompts is missing; give a file with one prompt per line, or a starter list such as nudity"
        )
    return demo_samples(concept, options.seeds)


def _check_concept(concept: str) -> None:
    """Raise OptionError for a concept with words that the demo model has never seen: it draws nothing for them."""
    from lib_gie.demo.words import unknown_concept_message

    if message := unknown_concept_message(concept):
        raise OptionError(message)


def _without(text: str | None, concept: str, samples: list[Sample]) -> list[Sample]:
    """Return a concept's samples whose prompts lack a text.

    Raises OptionError where no prompt has it, and where none is left that names or implies the concept.
    """
    from lib_gie.training.prompts import all_unrelated

    if text is None:
        return samples
    left = [sample for sample in samples if text.casefold() not in sample.prompt.casefold()]
    if len(left) == len(samples):
        raise OptionError(f"--leave-out {text!r} is in no prompt for {concept!r}; give a text that some have")
    if all_unrelated([sample.kind for sample in left]):
        raise OptionError(
            f"--leave-out {text!r} leaves no prompt that names or implies {concept!r}; give a text that fewer have"
        )
    return left


def demo_samples(concept: str, count: int) -> list[Sample]:
    """Return the samples that a concept's adapter for the demo model is fitted on.

    The prompts of the train split have this many of the split's seeds. The others are many, so one image of each is
    enough. Their seeds differ: there are seeds with which an object is left out whatever the prompt says, and with one
    of them for all prompts the labels would say so of every prompt. Raises OptionError for a concept that is not among
    the demo model's.
    """
    from lib_gie.demo.words import bare_name, thing_named
    from lib_gie.demo.world.concepts import CONCEPTS
    from lib_gie.demo.world.fitting import fitting_prompts, training_kind
    from lib_gie.demo.world.splits import load_split
    from lib_gie.training.labels import Sample

    name = bare_name(concept)
    if name not in CONCEPTS:
        meant = thing_named(concept)
        hint = f" To its detector that is {meant!r}." if meant in CONCEPTS else ""
        raise OptionError(
            f"the demo model has no prompts for {concept!r}; name one of {', '.join(CONCEPTS)}, or give --prompts, "
            f"such as --prompts {_list_on_demo(concept)}.{hint}"
        )
    split, seeds = load_split("train")
    of_split = {prompt.text for prompt in split}
    return [
        Sample(prompt.text, seed, training_kind(prompt))
        for number, prompt in enumerate(fitting_prompts(name))
        for seed in (seeds[:count] if prompt.text in of_split else (number % _OTHER_SEEDS,))
    ]


def _list_on_demo(concept: str) -> str:
    """Return the name of the starter list for a concept on the demo model."""
    from lib_gie.demo.words import is_style
    from lib_gie.training.prompts import starter_list_for

    return starter_list_for(concept, is_demo=True, is_style=is_style(concept))


def _check_list(name: str, concept: str, demo: bool) -> None:
    """Warn of a starter list for things where the concept is a style of the demo model, and of the reverse."""
    if not demo:
        return
    from lib_gie.demo.words import is_style
    from lib_gie.training.prompts import general_list

    kind, suited = general_list(name), _list_on_demo(concept)
    if kind is not None and kind != general_list(suited):
        print(f"warning: the list {name} is not for {concept!r}, a {'style' if is_style(concept) else 'thing'} of the "
              f"demo model; take --prompts {suited}", file=sys.stderr)  # fmt: skip


def _check_prompts(prompts: list[tuple[str, str]], concept: str, demo: bool) -> None:
    """Raise OptionError where there is nothing to label; warn of prompts that are probably not meant so."""
    from lib_gie.demo.words import unknown_in_prompts_message
    from lib_gie.training.prompts import all_unrelated, webui_syntax, without_syntax
    from lib_gie.training.prompts.doubts import doubts

    kinds = [kind for _, kind in prompts]
    if all_unrelated(kinds):
        raise OptionError("the prompts are all unrelated; give some that name or imply the concept")
    if "unrelated" not in kinds:
        print("warning: no prompt is unrelated; without [unrelated] ones an adapter erases everywhere", file=sys.stderr)
    doubted = doubts(prompts, concept)
    if demo:
        of_words = unknown_in_prompts_message(without_syntax(prompts), concept, _list_on_demo(concept))
        doubted += [of_words] if of_words else []
    for text in doubted:
        print(f"warning: {text}", file=sys.stderr)
    marked = [found for prompt, _ in prompts if (found := webui_syntax(prompt))]
    if marked:
        print(
            f"warning: {len(marked)} prompts have the WebUI's syntax, such as {marked[0]!r}, which is read as plain "
            f"letters here; the tab Growth Inhibitors of the WebUI trains on such prompts",
            file=sys.stderr,
        )


def _out(name: str) -> Path:
    path = Path(name)
    return path if path.suffix == ".safetensors" else own_folder() / f"{name}.safetensors"


def _free(options: argparse.Namespace) -> Path:
    """Return where the adapter goes: beside one that somebody has saved meanwhile, so that neither is lost."""
    path = wanted = _out(options.out)
    numbers = itertools.count(2)
    while path.exists() and not options.replace:
        path = wanted.with_stem(f"{wanted.stem}-{next(numbers)}")
    if path != wanted:
        print(f"another adapter was saved as {options.out} meanwhile; this one is {path.name}", file=sys.stderr)
    return path


def _check(options: argparse.Namespace) -> None:
    for name, low, high in (("seeds", 1, 1000), ("steps", 1, 1000), ("batch", 1, 1024), ("epochs", 1, 10**6)):
        check_number(name, getattr(options, name), low, high)
    check_number("margin", options.margin, 1, 10)
    check_number("steepness", options.steepness, 1, 10)
    check_sampling(options.cfg)
    if options.own and options.recipe != "paper":
        raise OptionError("--own goes with --recipe paper: it says which parts are this project's nevertheless")
    if options.judge is not None:
        check_judge(options.judge)
    path = _out(options.out)
    check_file("--out", path)
    if path.exists() and not options.replace:
        raise OptionError(f"--out {options.out}: {path} is there already; take another name, or give --replace")
    check_folder("--labels", options.labels)


def run(options: argparse.Namespace) -> None:
    """Label, fit, save and report. Under ``accelerate launch`` every process labels its share."""
    _check(options)
    try:
        _train(options)
    except KeyboardInterrupt as error:
        raise KeyboardInterrupt(
            f"interrupted; what was found is kept in {options.labels}, and the same command goes on from there"
        ) from error


def _train(options: argparse.Namespace) -> None:
    from lib_gie.core.scales.adapter import save_adapter
    from lib_gie.hosts.diffusers import processes
    from lib_gie.hosts.diffusers.image_maker import demo_or_sd_maker
    from lib_gie.training.durations import duration
    from lib_gie.training.fitting import PromptInputs, check_enough, fit_labels
    from lib_gie.training.report import describe, is_good, summary, verdict

    begun = time.monotonic()
    concepts = bare_concepts("--concept", options.concept)
    demo = options.model is None
    work = {concept: _without(options.leave_out, concept, _samples(options, concept, demo)) for concept in concepts}
    prompts = {sample.prompt for samples in work.values() for sample in samples}
    check_enough(prompts)
    maker = demo_or_sd_maker(options.model, steps=options.steps, cfg=options.cfg)
    judge_name = options.judge or usual_judge(maker.base)
    judges = {concept: make_judge(judge_name, maker, concept) for concept in concepts}
    recipe = _recipe(options)
    inputs = PromptInputs(maker, concepts, options.read_at == "half", recipe.predicted, options.labels)
    steps = Steps((1 + (not _labels_all(options))) * len(concepts) + 2, processes.is_first())
    presumed = {concept: _presumption(options, maker, concept, samples, steps) for concept, samples in work.items()}
    if processes.is_first():
        say_extent(options, maker, work, presumed, judges)

    def read() -> None:
        steps.begin("reading the prompts' attention")
        inputs.of(concepts[0], prompts)  # for all concepts

    if not _labels_all(options):  # the rounds fit adapters, in every process
        read()
    labels = {}
    for concept, samples in work.items():
        rounds = "" if presumed[concept] is None else ", in rounds, after each of which an adapter is fitted"
        steps.begin(f"making and judging images for {concept}{rounds}")
        labels[concept] = _labels(options, maker, judges[concept], concept, samples, presumed[concept], inputs, recipe)
    if not processes.is_first():
        return
    if _labels_all(options):  # the other processes must not wait for it
        read()
    steps.begin("fitting the adapter")
    result = fit_labels(inputs, labels, recipe, presumed)
    path = _free(options)
    save_adapter(describe(result, labels, maker, judges, recipe, {"command": command(options)}), path)
    text = summary(result, labels)
    _say_result(verdict(result, text, path.stem), is_good(result, text), path, text, options.json)
    taken = taken_text(maker, concepts, path)
    print(
        f"The training took {duration(time.monotonic() - begun)}.{taken} {trial(options, path, work)}", file=sys.stderr
    )


def _say_result(said: str, is_good: bool, path: Path, figures: dict, as_json: bool) -> None:
    """Print the verdict, which is a warning where the adapter is not good, then the figures and the file."""
    if not is_good:
        print(f"warning: {said}", file=sys.stderr)
    elif not as_json:
        print(said)
    print(json.dumps({"file": str(path), **figures}) if as_json else _lines(path, figures))


def _labels_all(options: argparse.Namespace) -> bool:
    """Tell whether images of all prompts are asked for, so that nothing is calibrated."""
    return options.label == "all" or (options.label is None and options.recipe == "paper")


def _presumption(
    options: argparse.Namespace, maker: ImageMaker, concept: str, samples: Sequence[Sample], steps: Steps
) -> Presumption | None:
    """Calibrate a concept, and return what that says of its samples; None where every prompt is to be labelled."""
    from lib_gie.hosts.diffusers import processes
    from lib_gie.hosts.diffusers.calibrating import CalibrationBar
    from lib_gie.json_lines import identity_digest
    from lib_gie.training.calibration import calibrate
    from lib_gie.training.presumption import presume_or_say_why

    if _labels_all(options):
        return None
    steps.begin(f"calibrating {concept}")
    weights = identity_digest(maker.description)
    with CalibrationBar(concept) as bar:

        def calibrated() -> Calibration:
            return calibrate(maker, concept, weights, folder=options.labels, on_progress=bar)

        told, reason = presume_or_say_why(maker, calibrated, samples)
    told = processes.gather([told])[0]  # the processes must not differ in what they label
    if told is None and processes.is_first():
        print(f"{concept}: {reason}, so every prompt is labelled", file=sys.stderr)
    return told


def _labels(
    options: argparse.Namespace,
    maker: ImageMaker,
    judge: Judge,
    concept: str,
    samples: Sequence[Sample],
    presumption: Presumption | None,
    inputs: PromptInputs,
    recipe: Recipe,
) -> list[Label]:
    """Return the labels of one concept's samples, those of all processes."""
    from lib_gie.hosts.diffusers import processes
    from lib_gie.training.labels import Labelling
    from lib_gie.training.presumption import search_by
    from lib_gie.training.rounds import Rounds
    from lib_gie.training.search import GRID

    labelling = Labelling(
        maker, judge, concept, samples, options.labels,
        search=search_by(presumption, GRID), batch=options.batch, part=processes.rank(),
    )  # fmt: skip
    if presumption is None:
        own = labelling.run(only=processes.share(list(labelling.searches)))
        return processes.gather(own) + labelling.of_unrelated()
    return Rounds(labelling, presumption, inputs, recipe, processes.share, processes.gather).run()


def _recipe(options: argparse.Namespace) -> Recipe:
    from lib_gie.training.fitting import Recipe, paper_recipe_with

    recipe = paper_recipe_with(options.own or ()) if options.recipe == "paper" else Recipe()
    factors = {name: getattr(options, name) for name in ("margin", "steepness")}
    given = {name: value for name, value in factors.items() if value is not None}
    return dataclasses.replace(recipe, epochs=options.epochs, **given)


def command(options: argparse.Namespace) -> str:
    """Return the command line that gives the same adapter, without defaults, folders and models."""
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    parts = [f"--concept {shlex.quote(options.concept)}"]
    for name in (
        "prompts", "judge", "seeds", "steps", "cfg", "epochs", "recipe", "own", "label", "read_at", "margin",
        "steepness", "leave_out",
    ):  # fmt: skip
        if (value := getattr(options, name)) != parser.get_default(name):
            values = value if isinstance(value, list) else [value]
            parts.append(" ".join([f"--{name.replace('_', '-')}", *(shlex.quote(str(one)) for one in values)]))
    return " ".join(["python -m lib_gie train", *parts, f"--out {shlex.quote(_out(options.out).stem)}"])


def _lines(path: Path, text: dict) -> str:
    return "\n".join([*(f"{key}: {value}" for key, value in text.items()), str(path)])
