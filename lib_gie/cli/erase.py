"""``python -m lib_gie erase``: one prompt without and with erasure, side by side."""

from __future__ import annotations

import argparse
import io
import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from lib_gie.core.concepts import Concept, format_concepts
from lib_gie.errors import GieError, OptionError

from .arguments import add_options, check_number, check_sampling
from .concepts import read_concepts
from .examples import Example
from .next_steps import next_steps, shows
from .outputs import check_folder, write_files
from .scales import Choice, adapter_path, add_automatic, choose_scales, given_choice, setters
from .sights import Shown, shown_in, together

_OF_IMAGE = re.compile(r"image (\d+), (.*)", re.DOTALL)

FILES = ("before.png", "after.png", "attention.png", "comparison.png")


EXAMPLES = (
    Example(
        '"a cat and a knife" --erase knife --seed 20 --out out',
        "The prompt names the knife, so at least the fixed scale counts. Four pictures go into the folder out.",
    ),
    Example(
        '"a picnic" --erase banana --seed 7 --out out',
        "No adapter is for banana: the first run calibrates it, which takes some seconds.",
    ),
    Example(
        '"a robbery" --erase "knife, wine:0.5" --scale -1 --count 3 --out out',
        "Two concepts, the second half as strongly, from three images with seeds 0 to 2.",
    ),
    Example(
        '"a portrait" --erase "van gogh style" --model sd15.safetensors --out out',
        "This needs a Stable Diffusion 1.x checkpoint of yours, here sd15.safetensors.",
    ),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("prompt", help="what the image is to show")
    parser.add_argument(
        "--erase", required=True, metavar="CONCEPTS", help="what is not to appear, such as: knife, wine:0.5"
    )
    parser.add_argument(
        "--out", required=True, type=Path, metavar="DIR", help=f"folder to write {', '.join(FILES)} into"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of the first image (default: 0)")
    parser.add_argument(
        "--count", type=int, default=1, help="how many images, with the seeds from SEED on (default: 1)"
    )
    parser.add_argument(
        "--model", type=Path, help="SD 1.x .safetensors file or diffusers folder (default: the demo model)"
    )
    parser.add_argument(
        "--adapter",
        help="adapter or calibration file, or the name of one in models/ or where calibrate keeps them (default: for "
        "each concept the adapter that was trained for it, else its calibration on this model, which is made where "
        "there is none)",
    )
    add_options(parser, "scale", default=None, usual="none, see --adapter")
    add_automatic(parser)
    add_options(parser, "strength")
    parser.add_argument("--steps", type=int, default=20, help="sampling steps (default: 20)")
    parser.add_argument("--cfg", type=float, help="CFG scale (default: 4 on the demo model, else 7)")
    parser.add_argument("--negative", default="", help="negative prompt (default: none)")
    add_options(parser, "start", "end", "concept_pass", "rule", "keep_composition")
    add_options(parser, "composition_cross", "composition_self", default=None)
    parser.add_argument(
        "--attention",
        action="store_true",
        help="write attention-1.png and so on, too: where the attention to each concept was, in all steps and in each",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object to standard output")


def _files(options: argparse.Namespace) -> list[str]:
    """Return the names of the files that are written."""
    own = range(len(read_concepts("--erase", options.erase)) if options.attention else 0)
    return [*FILES, *(f"attention-{number + 1}.png" for number in own)]


def _check(options: argparse.Namespace) -> None:
    check_number("steps", options.steps, 1, 1000)
    check_number("count", options.count, 1, 64)
    check_sampling(options.cfg, options.seed)
    shares = {name: getattr(options, f"composition_{name}") for name in ("cross", "self")}
    for name, share in shares.items():
        if share is not None and not options.keep_composition:
            raise OptionError(f"--composition-{name} goes with --keep-composition")
    if not options.prompt.strip():
        raise OptionError("the prompt is empty; say what the image is to show")
    check_folder("--out", options.out, _files(options))


def _check_words(options: argparse.Namespace) -> None:
    """Raise GieError for words of concepts that the demo model does not know; warn of such words elsewhere."""
    from lib_gie.demo.words import unknown_concept_message, unknown_words_message

    for concept in read_concepts("--erase", options.erase):
        if message := unknown_concept_message(concept.text):
            raise GieError(message)
    for text, what in ((options.prompt, "prompt"), (options.negative, "negative prompt")):
        message = unknown_words_message(text, what)
        if message:
            print(f"warning: {message}", file=sys.stderr)


def _warn_of_syntax(options: argparse.Namespace) -> None:
    from lib_gie.training.prompts import webui_syntax

    for text, what in ((options.prompt, "prompt"), (options.negative, "negative prompt")):
        if found := webui_syntax(text):
            print(
                f"warning: {found!r} of the {what} is read as plain letters here, not as in the WebUI", file=sys.stderr
            )


def _erased(options: argparse.Namespace, eraser, choices: Sequence[Choice]) -> dict[str, str]:
    """Return what is erased under the WebUI's keys, so that the WebUI reads the image as one that it made."""
    from lib_gie.hosts.webui.request.infotext import SCALE, scales_text, write_params
    from lib_gie.hosts.webui.request.parsing import Request

    shares = ("composition_cross", "composition_self")
    names = ("strength", "start", "end", "concept_pass", "rule", "keep_composition", *shares)
    given = {name: getattr(options, name) for name in names if getattr(options, name) is not None}
    written = write_params(Request(tuple(eraser.concepts), **given), [choice.source for choice in choices])
    if options.count == 1:
        written[SCALE] = scales_text([[scales.tolist() for scales in eraser.scales[0]]])
    return written


def _parameters(options: argparse.Namespace, size: tuple[int, int], erased: dict[str, str]) -> str:
    """Return a PNG's parameters as the WebUI writes them: prompt, negative prompt, one line of settings."""
    from lib_gie.hosts.webui.request.infotext import settings_line

    lines = [options.prompt]
    if options.negative:
        lines.append(f"Negative prompt: {options.negative}")
    settings = {
        "Steps": options.steps,
        "Sampler": "DPM++ 2M",
        "Schedule type": "Karras",
        "CFG scale": f"{options.cfg:g}",
        "Seed": options.seed,
        "Size": f"{size[0]}x{size[1]}",
        "Count": options.count if options.count > 1 else None,
        "Model": options.model.stem if options.model else "gie-demo",
    }
    lines.append(settings_line({**settings, **erased}))
    return "\n".join(lines)


def _write(out: Path, images: dict, parameters: dict[str, str]) -> None:
    """Write all files, or none where one cannot be encoded. ``parameters``: by file."""
    from PIL.PngImagePlugin import PngInfo

    encoded = {}
    for name, image in images.items():
        info, buffer = PngInfo(), io.BytesIO()
        if name in parameters:
            info.add_itxt("parameters", parameters[name])
        image.save(buffer, format="PNG", pnginfo=info)
        encoded[name] = buffer.getvalue()
    write_files(out, encoded)


def _pictures(pair, options: argparse.Namespace, seeds: list[int], set_by: Sequence[tuple[str, str]]) -> dict:
    """Return the images that the command writes, by file. ``set_by``: as ``setters`` returns it."""
    from lib_gie.pictures import SheetRow, attention_map, contact_sheet, overlay, strip

    concepts = len(pair.watched.concepts)
    overlays = []
    for image, picture in enumerate(pair.before):
        maps = [attention_map(pair.watched.recorder, concept, image, *picture.size) for concept in range(concepts)]
        overlays.append(overlay(picture, sum(maps[1:], maps[0])))
    text = format_concepts(pair.watched.concepts)
    said = [f"{who}:\n{why}" for who, why in set_by]
    rows, told = [], "\n".join(dict.fromkeys(said))
    for image, seed in enumerate(seeds):
        note = f"erase: {text}\nseed {seed}, {_scale_text(pair.eraser, image)}\n{told}"
        rows.append(SheetRow(options.prompt, note, (pair.before[image], pair.after[image], overlays[image])))
    sheet = contact_sheet(("without", "with", "attention to it"), rows)
    found = dict(zip(FILES, (strip(pair.before), strip(pair.after), strip(overlays), sheet), strict=True))
    return found | (_attention(pair, seeds) if options.attention else {})


def _attention(pair, seeds: list[int]) -> dict:
    """Return a picture for each concept, by file: each image's attention over all steps, then step by step."""
    from lib_gie.pictures import Region, explained, region_map, stacked, step_maps, steps_sheet

    found, recorder = {}, pair.eraser.recorder
    for number, concept in enumerate(pair.eraser.concepts):
        lines = []
        for image, (seed, picture) in enumerate(zip(seeds, pair.after, strict=True)):
            region = Region(*picture.size)
            text = f"{concept.text}, seed {seed}, {_scale_text(pair.eraser, image)}"
            lines.append(explained(picture, region_map(recorder, number, [image], region), text))
            lines.append(steps_sheet(picture, step_maps(recorder, number, [image], region), text))
        found[f"attention-{number + 1}.png"] = stacked(lines)
    return found


def _scale_text(eraser, image: int) -> str:
    values = [f"{round(float(value), 4):.2f}" for concept in eraser.scales[image] for value in concept]
    return f"scale {', '.join(values)}"


def _nothing_found(pair, number: int, choice: Choice) -> bool:
    """Tell whether nothing was erased because an adapter or a calibration found a concept in no image's prompt."""
    from lib_gie.core.scales.scale_rules import Guarded

    is_wanted = pair.eraser.settings.strength * pair.eraser.concepts[number].weight != 0
    scales = [float(value) for of_image in pair.eraser.scales for value in of_image[number]]
    return is_wanted and isinstance(choice.rule, Guarded) and not any(scales)


def _report(
    pair,
    options: argparse.Namespace,
    seeds: list[int],
    choices: Sequence[Choice],
    set_by: Sequence[tuple[str, str]],
    demo: bool,
) -> dict:
    """Return the JSON object. ``set_by``: as ``setters`` returns it."""
    from lib_gie.hosts.diffusers.texts import concept_tokens

    scales = pair.eraser.scales
    concepts = [
        {
            "text": concept.text,
            "weight": concept.weight,
            "tokens": concept_tokens(pair.eraser.pipe, concept.text),
            "scales": [[round(float(value), 4) for value in scales[image][number]] for image in range(len(seeds))],
            "by": choices[number].by,
            "set_by": ": ".join(set_by[number]),
            "why": choices[number].why,
            "nothing_found": _nothing_found(pair, number, choices[number]),
        }
        for number, concept in enumerate(pair.eraser.concepts)
    ]
    report = {
        "prompt": options.prompt,
        "seed": options.seed,
        "concepts": concepts,
        "notes": pair.eraser.notes,
        "seconds_before": round(pair.seconds_before, 3),
        "seconds_after": round(pair.seconds_after, 3),
    }
    if demo:
        before, after = ([shown_in([picture]) for picture in pictures] for pictures in (pair.before, pair.after))
        report |= _seen(together(before), together(after))
        report["images"] = [{"seed": seed, **_seen(*shown)} for seed, *shown in zip(seeds, before, after, strict=True)]
    report["files"] = [str(options.out / name) for name in _files(options)]
    return report


def _seen(before: Shown, after: Shown) -> dict[str, list[str]]:
    """Return the names of what shows without and with erasure."""
    found: dict[str, list[str]] = {}
    for when, shown in (("before", before), ("after", after)):
        found |= {f"objects_{when}": sorted(shown.objects), f"styles_{when}": sorted(shown.styles)}
    return found


def _shown(report: dict, when: str) -> Shown:
    return Shown(frozenset(report[f"objects_{when}"]), frozenset(report[f"styles_{when}"]))


def _together(notes: Sequence[str]) -> list[str]:
    """Return notes, those that are alike for several images in one."""
    by_text: dict[str, list[str]] = {}
    for note in notes:
        image, text = match.groups() if (match := _OF_IMAGE.fullmatch(note)) else ("", note)
        by_text.setdefault(text, []).append(image)
    return [_of_images(images) + text for text, images in by_text.items()]


def _of_images(numbers: Sequence[str]) -> str:
    """Return how a note begins that is of the images of these numbers; "" for a note that is of none."""
    return f"image{'s' * (len(numbers) > 1)} {', '.join(numbers)}, " if numbers[0] else ""


def _counts(report: dict) -> list[str]:
    """Say of each concept in how many of several images it shows, without and with erasure."""
    from lib_gie.demo.words import thing_named

    images = report["images"]
    if len(images) < 2:
        return []
    found = []
    for concept in report["concepts"]:
        if thing_named(concept["text"]) is None:  # next_steps says so
            continue
        before, after = ([one["seed"] for one in images if shows(concept["text"], one, w)] for w in ("before", "after"))
        which = f" (seed {', '.join(map(str, after))})" if after else ""
        found.append(
            f"{concept['text']}: in {len(before)} of {len(images)} images without, in {len(after)} with{which}"
        )
    return found


def _in_words(scales: Sequence[float]) -> str:
    """Return the scales of one image: one for all of the concept's tokens, or one for each."""
    found = [f"{scale:.2f}" for scale in scales]
    return found[0] if len(set(found)) == 1 else " ".join(found)


def _print(report: dict, demo: bool, options: argparse.Namespace) -> None:
    print(f"prompt: {report['prompt']}")
    for concept in report["concepts"]:
        scales = ", ".join(_in_words(of_image) for of_image in concept["scales"])
        print(f"erase: {concept['text']} (tokens: {' '.join(concept['tokens'])}), scale {scales}")
        print(f"       by {concept['set_by']}")
        if concept["nothing_found"]:
            print("       so nothing was erased: no image's prompt was found to name or imply it")
    for note in _together(report["notes"]):
        print(f"note: {note}")
    print(f"seconds: {report['seconds_before']} without, {report['seconds_after']} with")
    if demo:
        of_all = " (all images together)" if len(report["images"]) > 1 else ""
        print(f"shown without: {_shown(report, 'before')}{of_all}")
        print(f"shown with:    {_shown(report, 'after')}{of_all}")
        for line in (*_counts(report), *next_steps(report, options)):
            print(line)
    print("\n".join(report["files"]))


def run(options: argparse.Namespace) -> None:
    """Make, write and report."""
    read_concepts("--erase", options.erase)
    _check(options)
    from tqdm import tqdm

    from lib_gie.hosts.diffusers import processes
    from lib_gie.hosts.diffusers.loading import default_sampling, is_demo, load_pipeline
    from lib_gie.hosts.diffusers.pair import Sampling, erase_pair

    demo = is_demo(options.model)
    if demo:
        _check_words(options)
    _warn_of_syntax(options)
    default_cfg, size = default_sampling(options.model)
    if options.cfg is None:
        options.cfg = default_cfg
    given = _given(options, demo)
    pipe = load_pipeline(options.model, processes.device())
    concepts = read_concepts("--erase", options.erase)
    choices = _choices(pipe, concepts, given, options)
    seeds = list(range(options.seed, options.seed + options.count))
    sampling = Sampling(options.steps, options.cfg, options.negative, size, seeds)
    names = ("strength", "start", "end", "concept_pass", "rule")
    chosen = {name: getattr(options, name) for name in names}
    asked = {name: getattr(options, name) for name in ("composition_cross", "composition_self")}
    shares = {name: share for name, share in asked.items() if share is not None}
    # the bar waits a moment, so that none is shown before the error of a bad option
    with tqdm(total=2 * options.steps, desc="erase", file=sys.stderr, delay=0.5) as bar:
        pair = erase_pair(
            pipe, options.prompt, concepts, sampling, progress=bar.update,
            adapter=[choice.rule for choice in choices], keep_composition=options.keep_composition, **chosen, **shares,
        )  # fmt: skip
    size, erased = pair.after[0].size, _erased(options, pair.eraser, choices)
    told = {"before.png": _parameters(options, size, {}), "after.png": _parameters(options, size, erased)}
    set_by = setters(pair.eraser, choices, len(seeds))
    _write(options.out, _pictures(pair, options, seeds, set_by), told)  # no other file is an image of these parameters
    report = _report(pair, options, seeds, choices, set_by, demo)
    print(json.dumps(report)) if options.json else _print(report, demo, options)


def _given(options: argparse.Namespace, demo: bool) -> Choice | None:
    """Return the scale that was asked for, None for the best that there is. Bad choices are errors before the model."""
    from lib_gie.core.scales.scale_rules import Guarded
    from lib_gie.demo.sampling_settings import FAMILY
    from lib_gie.hosts.diffusers.growth_inhibitors import scale_rule
    from lib_gie.options import ErasureSettings

    ErasureSettings(concept_pass=options.concept_pass, rule=options.rule)
    if options.scale is not None and options.adapter is not None:
        raise OptionError("--scale and --adapter are both given; give one of them")
    adapter = None if options.adapter is None else adapter_path(options.adapter)
    rule = scale_rule(options.scale, adapter, options.rule)
    if demo and isinstance(rule, Guarded) and rule.adapter.info.base != FAMILY:
        rule.check_model(FAMILY, ())
    return None if options.scale is None and adapter is None else given_choice(rule, adapter)


def _choices(pipe, concepts: Sequence[Concept], given: Choice | None, options: argparse.Namespace) -> list[Choice]:
    """Return the scale of each concept, once it is known that their texts fit."""
    from lib_gie.hosts.diffusers.erased_pipeline import check_pipeline

    check_pipeline(pipe, concepts)
    if given is not None:
        return [given] * len(concepts)
    return choose_scales(pipe, concepts, options.rule, not options.no_calibrate)
