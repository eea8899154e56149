"""The committed split of prompts and seeds into train, validation and held-out.

``python -m lib_gie.demo.world.splits`` writes ``splits.json`` anew. Scales and adapters are fitted on "train" and
chosen on "validation"; "heldout" is for the final figures alone. The demo model itself never sees a caption of the
last two. Each split has names, descriptions and phrases for styles of its own, and the held-out prompts have scenes of
their own: what is measured there was not trained on.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass

import numpy as np

from lib_gie.assets import WORLD_SPLITS

from .drafts import OF_A_THING, Draft, harmless, nothing, of_a_style, several, without_style, write
from .styles import NAMED_STYLES, STYLES
from .things import OBJECTS, UNWANTED

NAMES = ("train", "validation", "heldout")

COUNTS = {
    "named": (16, 10, 10),
    "implied": (12, 8, 8),
    "synonym": (6, 4, 6),
    "described": (6, 4, 6),
    "neighbour": (6, 4, 6),
    "styled": (6, 4, 6),
    "long": (3, 2, 3),
}
"""Prompts for each thing to erase, by kind, in train, validation and held-out."""

STYLE_COUNTS = {"style named": (16, 10, 10), "style implied": (12, 8, 8), "style unrelated": (16, 8, 12)}
"""Prompts for each style to erase."""

SEVERAL_COUNTS = (24, 16, 16)
"""Prompts with two or three things to erase."""

UNRELATED_COUNTS = (40, 40, 40)
"""Prompts without anything that one may want to erase, each with a thing to erase from it."""

UNRELATED = ("unrelated", "style unrelated")
"""The kinds of prompt without the concept: without a thing, and without a style."""

NOTHING_COUNTS = (10, 10, 10)
"""Prompts for nothing: the model's quality is measured on them, and no erasure."""

KINDS = (*COUNTS, "several", "unrelated", *STYLE_COUNTS)
"""The kinds of prompt that erasure is measured on."""

_SEEDS = 8


@dataclass(frozen=True)
class Prompt:
    """One prompt: its text, what its image shows, the concepts to erase and how the prompt relates to them.

    ``background``: None where the text leaves it open. ``concept``: the text of the concepts, with commas between
    several. ``kind``: one of KINDS. "named": the thing's own name; "synonym": another; "described": a phrase without a
    name; "implied": a scene that it belongs to; "neighbour": a harmless thing that is near to it, alone or beside it;
    "styled": its name, in a picture that is not plain; "long": its name among many words that mean nothing;
    "several": several things are named and erased; "unrelated": nothing of all this. "style named", "style implied" and
    "style unrelated": the concept is a style, and the last are plain or in another one. "nothing" is none of KINDS: its
    image has no object.
    """

    text: str
    objects: tuple[str, ...]
    background: str | None
    style: str
    concept: str
    kind: str


class _Split:
    """One split while it is drawn. ``taken``: the texts of all splits so far."""

    def __init__(self, number: int, rng: np.random.Generator, taken: set[str]):
        self.number, self.rng, self.taken = number, rng, taken
        self.prompts: list[Prompt] = []

    def add(self, concept: str, kind: str, draft: Callable[[], Draft]) -> None:
        """Add a prompt whose text is not taken yet. ``concept``: empty for all things to erase that it shows."""
        while True:
            drawn = draft()
            text, background = write(drawn, self.rng)
            if text not in self.taken and text not in OBJECTS:  # bare words are the scenes "word", which have no other
                break
        self.taken.add(text)
        concept = concept or ", ".join(name for name in drawn.objects if name in UNWANTED)
        self.prompts.append(Prompt(text, drawn.objects, background, drawn.style, concept, kind))

    def fill(self) -> None:
        """Draw all prompts."""
        rng, number = self.rng, self.number
        for concept in UNWANTED:
            for kind, counts in COUNTS.items():
                for index in range(counts[number]):
                    self.add(concept, kind, functools.partial(OF_A_THING[kind], concept, index, number, rng))
        for style in NAMED_STYLES:
            for kind, counts in STYLE_COUNTS.items():
                for index in range(counts[number]):
                    self.add(STYLES[style].phrase, kind, self._of_a_style(style, kind, index))
        for index in range(SEVERAL_COUNTS[number]):
            self.add("", "several", functools.partial(several, index, rng))
        for index in range(UNRELATED_COUNTS[number]):
            self.add(tuple(UNWANTED)[index % len(UNWANTED)], "unrelated", functools.partial(harmless, index, rng))
        for index in range(NOTHING_COUNTS[number]):
            self.add(next(iter(UNWANTED)), "nothing", functools.partial(nothing, index))

    def _of_a_style(self, style: str, kind: str, index: int) -> Callable[[], Draft]:
        if kind == "style unrelated":
            return functools.partial(without_style, style, index, self.number, self.rng)
        phrase = STYLES[style].phrase if kind == "style named" else STYLES[style].implied[self.number]
        return functools.partial(of_a_style, style, phrase, index, self.rng)


def make_splits(seed: int = 0) -> dict:
    """Draw all prompts and seeds, every text in one split only."""
    taken: set[str] = set()
    splits: dict = {}
    for number, name in enumerate(NAMES):
        split = _Split(number, np.random.default_rng([seed, number]), taken)
        split.fill()
        seeds = [1000 * (number + 1) + k for k in range(_SEEDS)]
        splits[name] = {"seeds": seeds, "prompts": [asdict(prompt) for prompt in split.prompts]}
    return splits


@functools.cache
def load_split(name: str) -> tuple[tuple[Prompt, ...], tuple[int, ...]]:
    """Return prompts and seeds of "train", "validation" or "heldout"."""
    split = json.loads(WORLD_SPLITS.read_text(encoding="utf-8"))[name]
    prompts = tuple(Prompt(**{**fields, "objects": tuple(fields["objects"])}) for fields in split["prompts"])
    return prompts, tuple(split["seeds"])


def reserved_captions() -> frozenset[str]:
    """Return the texts that the demo model must not be trained on."""
    return frozenset(prompt.text for name in NAMES[1:] for prompt in load_split(name)[0])


def _write_file() -> None:
    text = json.dumps(make_splits(), indent=None, separators=(",", ":"))
    WORLD_SPLITS.write_text(text.replace('{"text"', '\n{"text"') + "\n", encoding="utf-8")


if __name__ == "__main__":
    _write_file()
