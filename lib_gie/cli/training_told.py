"""What ``train`` says before and after the work: how much it is, and how to try the adapter."""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lib_gie.assets import adapter_folders

if TYPE_CHECKING:
    from lib_gie.hosts.diffusers.image_maker import PipelineImageMaker
    from lib_gie.training.image_maker import ImageMaker
    from lib_gie.training.judges import Judge
    from lib_gie.training.labels import Sample
    from lib_gie.training.presumption import Presumption
    from lib_gie.training.work import Work

_LONGEST_TRIAL = 60  # characters of the prompt that an adapter is tried on, if there is one as short


def say_extent(
    options: argparse.Namespace,
    maker: ImageMaker,
    samples: Mapping[str, Sequence[Sample]],
    presumed: Mapping[str, Presumption | None],
    judges: Mapping[str, Judge],
) -> None:
    """Say how much there is to do for each concept, and how long one process takes here."""
    from lib_gie.training.search import GRID
    from lib_gie.training.work import seconds_of_evaluation, together, work_left

    pace = seconds_of_evaluation(maker, next(iter(samples)), options.batch)
    judge = type(next(iter(judges.values())))  # it is the same for all concepts
    works = {
        concept: work_left(own, len(GRID), judge, options.steps, presumed[concept]) for concept, own in samples.items()
    }
    for concept, work in works.items():
        print(extent_text(concept, work, judge, pace), file=sys.stderr)
    if len(works) > 1:
        prompts = len({sample.prompt for own in samples.values() for sample in own})
        print(extent_text("all together", together(list(works.values()), prompts), judge, pace), file=sys.stderr)


def extent_text(concept: str, work: Work, judge: type[Judge], pace: float) -> str:
    """Say how much there is to do for a concept. ``pace``: the seconds that an evaluation of the UNet takes."""
    from lib_gie.hosts.diffusers import processes
    from lib_gie.training.work import uncounted_text

    of_one = " of one process" if processes.count() > 1 else ""
    return (
        f"{concept}: {work.prompts:,} prompts to read. Images to make: {work.images_text}. Time{of_one}: "
        f"{work.time_text(pace)}, less what an earlier run has kept.{uncounted_text(judge)}"
    )


def taken_text(maker: PipelineImageMaker, concepts: Sequence[str], path: Path) -> str:
    """Return a sentence, after a space, on the concepts that `erase` takes a new adapter for, where none is named."""
    from lib_gie.core.concepts import Concept
    from lib_gie.core.layers import find_cross_attention
    from lib_gie.hosts.library import adapter_for

    heads = [layer.heads for layer in find_cross_attention(maker.pipe.unet)]
    found = {text: adapter_for(Concept(text).key, maker.base, heads, adapter_folders()) for text in concepts}
    taken = [text for text, chosen in found.items() if chosen is not None and chosen.path.resolve() == path.resolve()]
    if not taken:
        return " `erase` takes it only where --adapter names it."
    return f" From now on `erase` takes it for {', '.join(taken)}, where no other is named."


def trial(options: argparse.Namespace, path: Path, work: Mapping[str, Sequence[Sample]]) -> str:
    """Return two lines: how to try the new adapter, and a command that erases with it from a prompt of its training.

    Best is one that only implies the concept: where a prompt names it, the fixed scale may be stronger. Next best is
    one that names it once and has more in it.
    """
    from lib_gie.core.concepts import Concept, format_concepts
    from lib_gie.named import times_named
    from lib_gie.training.prompts import webui_syntax

    samples = [sample for own in work.values() for sample in own if sample.kind != "unrelated"]

    def order(sample: Sample) -> tuple[bool, bool, bool, int]:
        text = sample.prompt
        is_odd = text.startswith("-") or len(text) > _LONGEST_TRIAL or webui_syntax(text) is not None
        is_repeated = sum(times_named(text, concept) for concept in work) > 1
        return is_odd, sample.kind != "implicit", is_repeated, -len(text)

    chosen = min(samples, key=order)
    given = {
        "--erase": format_concepts([Concept(concept) for concept in work]),
        "--adapter": options.out if path.stem == options.out else str(path),
        "--model": str(options.model or ""),
        "--count": "4",
        "--out": f"out-{path.stem}",
    }
    words = ["python", "-m", "lib_gie", "erase", chosen.prompt]
    for name, value in given.items():
        words += [f"{name}={value}"] if value.startswith("-") else [name, value] if value else []
    names = "" if chosen.kind == "implicit" else " (its prompt names the concept, so the fixed scale may be stronger)"
    return f"Try the adapter{names}:\n  {for_shell(words, is_windows=os.name == 'nt')}"


def for_shell(words: Sequence[str], is_windows: bool) -> str:
    """Return words as one line to paste: Windows' command prompt knows no single quotes."""
    return subprocess.list2cmdline(words) if is_windows else shlex.join(words)
