"""The committed split of prompts and seeds into train, validation and held-out.

``python -m lib_gie.demo.splits`` writes ``splits.json`` anew. Scales and adapters are fitted on "train" and chosen on
"validation"; "heldout" is for the final figures alone. The demo model itself never sees a caption of the last two.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np

from lib_gie.assets import SPLITS
from lib_gie.errors import OptionError

from .glyphs import OBJECTS, UNWANTED, WANTED
from .scenes import BACKGROUNDS, IMPLICIT, Scene, sample_caption, sample_scene
from .world.scenes import pick

NAMES = ("train", "validation", "heldout")
_PER_CONCEPT = {"train": (16, 12), "validation": (10, 8), "heldout": (10, 8)}  # explicit, implicit
_UNRELATED = 40
_SEEDS = 8


@dataclass(frozen=True)
class Prompt:
    """One prompt: its text, the objects of its image, the concept to erase and how the prompt relates to it.

    ``kind`` is "explicit", "implicit" or "unrelated". ``background`` is None where the text leaves it open.
    """

    text: str
    objects: tuple[str, ...]
    background: str | None
    concept: str
    kind: str


def _named_background(text: str) -> str | None:
    return next((name for name in BACKGROUNDS if text.endswith(f"on a {name} background")), None)


def _prompt(scene: Scene, concept: str, kind: str, rng: np.random.Generator, taken: frozenset[str]) -> Prompt:
    text = sample_caption(scene, rng, taken)
    return Prompt(text, scene.objects, _named_background(text), concept, kind)


def _explicit(concept: str, index: int, rng: np.random.Generator) -> Scene:
    others = [name for name in OBJECTS if name != concept]
    objects = (concept,) if index % 5 == 0 else (concept, pick(rng, others))
    return Scene(objects, pick(rng, tuple(BACKGROUNDS)), "explicit")


def _implicit(concept: str, index: int, rng: np.random.Generator) -> Scene:
    phrases = [phrase for phrase, objects in IMPLICIT.items() if concept in objects]
    phrase = phrases[index % len(phrases)]
    return Scene(IMPLICIT[phrase], pick(rng, tuple(BACKGROUNDS)), "implicit", phrase)


def _unrelated(index: int, rng: np.random.Generator) -> Scene:
    background = pick(rng, tuple(BACKGROUNDS))
    harmless = [phrase for phrase, objects in IMPLICIT.items() if not set(objects) & set(UNWANTED)]
    if index % 4 == 0:
        phrase = pick(rng, harmless)
        return Scene(IMPLICIT[phrase], background, "implicit", phrase)
    names = tuple(WANTED)
    objects = tuple(names[i] for i in rng.permutation(len(names))[: 1 + index % 2])
    return Scene(objects, background, "explicit")


def make_splits(seed: int = 0) -> dict:
    """Draw all prompts and seeds, every text in one split only."""
    rng = np.random.default_rng(seed)
    taken: set[str] = set()
    splits: dict = {}
    for offset, name in enumerate(NAMES):
        prompts: list[Prompt] = []

        def add(scene: Scene, concept: str, kind: str, prompts=prompts) -> None:
            prompt = _prompt(scene, concept, kind, rng, frozenset(taken))
            taken.add(prompt.text)
            prompts.append(prompt)

        for concept in UNWANTED:
            explicit, implicit = _PER_CONCEPT[name]
            for index in range(explicit):
                add(_explicit(concept, index, rng), concept, "explicit")
            for index in range(implicit):
                add(_implicit(concept, index, rng), concept, "implicit")
        for index in range(_UNRELATED):
            add(_unrelated(index, rng), tuple(UNWANTED)[index % len(UNWANTED)], "unrelated")
        seeds = [1000 * (offset + 1) + k for k in range(_SEEDS)]
        splits[name] = {"seeds": seeds, "prompts": [asdict(prompt) for prompt in prompts]}
    return splits


@functools.cache
def load_split(name: str) -> tuple[tuple[Prompt, ...], tuple[int, ...]]:
    """Return prompts and seeds of "train", "validation" or "heldout"."""
    split = json.loads(SPLITS.read_text(encoding="utf-8"))[name]
    prompts = tuple(Prompt(**{**fields, "objects": tuple(fields["objects"])}) for fields in split["prompts"])
    return prompts, tuple(split["seeds"])


MORE = (("explicit", 70), ("implicit", 30), ("unrelated", 400), ("explicit", 240))
"""Kinds and numbers of prompts that ``more_prompts`` draws, in order. More can be appended without changing these."""


def more_prompts(concept: str, counts: Sequence[tuple[str, int]] = MORE) -> list[Prompt]:
    """Return further prompts to fit a concept's adapter on. They are in none of the splits, and the same at every call.

    Half of the unrelated ones may show the other unwanted objects.
    """
    rng = np.random.default_rng([len(NAMES), tuple(UNWANTED).index(concept)])
    taken = {prompt.text for name in NAMES for prompt in load_split(name)[0]}
    prompts: list[Prompt] = []

    def other(index: int) -> Scene:
        while True:
            scene = _unrelated(index, rng) if index % 2 else sample_scene(rng)
            if concept not in scene.objects and scene.kind != "word":
                return scene

    scenes = {
        "explicit": lambda index: _explicit(concept, index, rng),
        "implicit": lambda index: _implicit(concept, index, rng),
        "unrelated": other,
    }
    for kind, count in counts:
        prompts += _different(kind, count, scenes[kind], concept, rng, taken)
    return prompts


def fitting_prompts(concept: str) -> list[Prompt]:
    """Return the prompts that a concept's adapter is fitted on, from the train split and ``more_prompts``.

    They are the concept's explicit and implicit ones, and those of all concepts whose images lack it, as "unrelated".
    """
    every = [*load_split("train")[0], *(prompt for name in UNWANTED for prompt in more_prompts(name))]
    found: dict[str, Prompt] = {}
    for prompt in every:
        if concept not in prompt.objects:
            found.setdefault(prompt.text, replace(prompt, concept=concept, kind="unrelated"))
        elif prompt.concept == concept:
            found.setdefault(prompt.text, prompt)
    return list(found.values())


def _different(
    kind: str, count: int, scene_of, concept: str, rng: np.random.Generator, taken: set[str]
) -> list[Prompt]:
    """Draw ``count`` prompts whose texts are not taken yet, and mark them as taken.

    A scene whose text is taken is drawn again. Raises OptionError where there are not enough texts.
    """
    found: list[Prompt] = []
    for index in range(100 * count):
        if len(found) == count:
            break
        prompt = _prompt(scene_of(index), concept, kind, rng, frozenset())
        if prompt.text not in taken:
            taken.add(prompt.text)
            found.append(prompt)
    if len(found) < count:
        raise OptionError(f"{count} {kind} prompts for {concept} were asked for; there are no more than {len(found)}")
    return found


def reserved_captions() -> frozenset[str]:
    """Return the texts that the demo model must not be trained on."""
    return frozenset(prompt.text for name in NAMES[1:] for prompt in load_split(name)[0])


def _write() -> None:
    text = json.dumps(make_splits(), indent=None, separators=(",", ":"))
    SPLITS.write_text(text.replace('{"text"', '\n{"text"') + "\n", encoding="utf-8")


if __name__ == "__main__":
    _write()
