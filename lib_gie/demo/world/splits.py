"""The committed split of prompts and seeds into train, validation and held-out.

``python -m lib_gie.demo.world.splits`` writes ``splits.json`` anew. Scales and adapters are fitted on "train" and
chosen on "validation"; "heldout" is for the final figures alone. The demo model itself never sees a caption of the
last two.
Each of them has names, descriptions and phrases for styles of its own, so that what is measured was not trained on.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from lib_gie.assets import WORLD_SPLITS

from .captions import FILLERS, JOINTS, PREFIXES, filled, in_style, joined, on_background
from .scenes import BACKGROUNDS, IMPLICIT, pick
from .styles import NAMED_STYLES, STYLES
from .things import NEIGHBOURS, OBJECTS, UNWANTED, WANTED, article

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

STYLE_COUNTS = {"style named": (16, 10, 10), "style implied": (12, 8, 8)}
"""Prompts for each style to erase."""

SEVERAL_COUNTS = (24, 16, 16)
"""Prompts with two or three things to erase."""

UNRELATED_COUNTS = (40, 40, 40)

KINDS = (*COUNTS, *STYLE_COUNTS, "several", "unrelated")

_SEEDS = 8
_LONG_FILLERS = (18, 25)  # words that mean nothing in a long prompt, at least, and one more than at most


@dataclass(frozen=True)
class Prompt:
    """One prompt: its text, what its image shows, the concepts to erase and how the prompt relates to them.

    ``background``: None where the text leaves it open. ``concept``: the text of the concepts, with commas between
    several. ``kind``: one of KINDS. "named": the thing's own name; "synonym": another; "described": a phrase without a
    name; "implied": a scene that it belongs to; "neighbour": a harmless thing that is near to it, alone or beside it;
    "styled": its name, in a picture that is not plain; "long": its name among many words that mean nothing; "style
    named" and "style implied": the concept is a style; "several": several things are named and erased; "unrelated":
    nothing of all this.
    """

    text: str
    objects: tuple[str, ...]
    background: str | None
    style: str
    concept: str
    kind: str


@dataclass(frozen=True)
class _Draft:
    """What a prompt is to say. ``mentions``: of its objects, in no order, or the phrase that implies them."""

    objects: tuple[str, ...]
    mentions: tuple[str, ...]
    style: str = "plain"
    style_phrase: str = ""
    long: bool = False


def _write(draft: _Draft, rng: np.random.Generator) -> tuple[str, str | None]:
    """Return a text for a draft, and the background that it names, if any."""
    background = pick(rng, tuple(BACKGROUNDS)) if rng.random() < 0.5 else None
    mentions = [draft.mentions[i] for i in rng.permutation(len(draft.mentions))]
    text = on_background(joined(mentions, pick(rng, JOINTS)), background)
    leading = draft.style_phrase == STYLES[draft.style].phrase and rng.random() < 0.5
    text = in_style(text, pick(rng, PREFIXES), draft.style_phrase, leading)
    if draft.long:
        words = [pick(rng, FILLERS) for _ in range(int(rng.integers(*_LONG_FILLERS)))]
        before = int(rng.integers(0, 3)) * len(words) // 2  # the text comes first, in the middle or last
        text = filled(", ".join((*words[:before], text)), words[before:])
    return text, background


def _others(rng: np.random.Generator, names: Sequence[str], count: int, without: Sequence[str]) -> tuple[str, ...]:
    """Draw some different objects."""
    left = [name for name in names if name not in without]
    return tuple(left[i] for i in rng.permutation(len(left))[:count])


def _named(concept: str, index: int, split: int, rng: np.random.Generator) -> _Draft:
    objects = (concept, *_others(rng, OBJECTS, min(index % 5, 1), (concept,)))
    return _Draft(objects, tuple(map(article, objects)))


def _implied(concept: str, index: int, split: int, rng: np.random.Generator) -> _Draft:
    phrases = [phrase for phrase, objects in IMPLICIT.items() if concept in objects]
    phrase = phrases[index % len(phrases)]
    return _Draft(IMPLICIT[phrase], (phrase,))


def _other_words(words: str, concept: str, index: int, rng: np.random.Generator) -> _Draft:
    others = _others(rng, OBJECTS, index % 2, (concept,))
    return _Draft((concept, *others), (words, *map(article, others)))


def _synonym(concept: str, index: int, split: int, rng: np.random.Generator) -> _Draft:
    return _other_words(UNWANTED[concept].synonyms[split], concept, index, rng)


def _described(concept: str, index: int, split: int, rng: np.random.Generator) -> _Draft:
    return _other_words(UNWANTED[concept].descriptions[split // 2], concept, index, rng)


def _neighbour(concept: str, index: int, split: int, rng: np.random.Generator) -> _Draft:
    near = NEIGHBOURS[concept]
    beside = concept if index % 2 else _others(rng, tuple(WANTED), 1, (near,))[0]
    return _Draft((near, beside), (article(near), article(beside)))


def _styled(concept: str, index: int, split: int, rng: np.random.Generator) -> _Draft:
    style = NAMED_STYLES[index % len(NAMED_STYLES)]
    objects = (concept, *_others(rng, tuple(WANTED), index % 2, ()))
    return _Draft(objects, tuple(map(article, objects)), style, STYLES[style].phrase)


def _long(concept: str, index: int, split: int, rng: np.random.Generator) -> _Draft:
    objects = (concept, *_others(rng, tuple(WANTED), index % 2, ()))
    return _Draft(objects, tuple(map(article, objects)), long=True)


def _harmless(index: int, rng: np.random.Generator) -> _Draft:
    """Draft a scene without anything that one may want to erase, in the plain style."""
    if index % 4 == 0:
        phrase = pick(rng, [phrase for phrase, objects in IMPLICIT.items() if not set(objects) & set(UNWANTED)])
        return _Draft(IMPLICIT[phrase], (phrase,))
    objects = _others(rng, tuple(WANTED), 1 + index % 2, ())
    return _Draft(objects, tuple(map(article, objects)))


def _in_style(style: str, phrase: str, index: int, rng: np.random.Generator) -> _Draft:
    objects = _others(rng, tuple(WANTED), 1 + index % 2, ())
    return _Draft(objects, tuple(map(article, objects)), style, phrase)


def _several(index: int, rng: np.random.Generator) -> _Draft:
    """Draft a scene with two or three things to erase, or with two of them and a harmless one."""
    concepts = _others(rng, tuple(UNWANTED), 2 + int(index % 3 == 0), ())
    objects = (*concepts, *_others(rng, tuple(WANTED), int(index % 3 == 1), ()))
    return _Draft(objects, tuple(map(article, objects)))


_OF_THING: dict[str, Callable[[str, int, int, np.random.Generator], _Draft]] = {
    "named": _named,
    "implied": _implied,
    "synonym": _synonym,
    "described": _described,
    "neighbour": _neighbour,
    "styled": _styled,
    "long": _long,
}


class _Split:
    """One split while it is drawn. ``taken``: the texts of all splits so far."""

    def __init__(self, number: int, rng: np.random.Generator, taken: set[str]):
        self.number, self.rng, self.taken = number, rng, taken
        self.prompts: list[Prompt] = []

    def add(self, concept: str, kind: str, draft: Callable[[], _Draft]) -> None:
        """Add a prompt whose text is not taken yet. ``concept``: empty for all things to erase that it shows."""
        while True:
            drawn = draft()
            text, background = _write(drawn, self.rng)
            if text not in self.taken:
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
                    self.add(concept, kind, functools.partial(_OF_THING[kind], concept, index, number, rng))
        for style in NAMED_STYLES:
            named, implied = STYLES[style].phrase, STYLES[style].implied[number]
            for kind, counts in STYLE_COUNTS.items():
                phrase = named if kind == "style named" else implied
                for index in range(counts[number]):
                    self.add(named, kind, functools.partial(_in_style, style, phrase, index, rng))
        for index in range(SEVERAL_COUNTS[number]):
            self.add("", "several", functools.partial(_several, index, rng))
        concepts = (*UNWANTED, *(STYLES[style].phrase for style in NAMED_STYLES))
        for index in range(UNRELATED_COUNTS[number]):
            self.add(concepts[index % len(concepts)], "unrelated", functools.partial(_harmless, index, rng))


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
