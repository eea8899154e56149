"""Drawn scenes and their captions, on which the demo model is trained.

A caption names its objects ("a cat and a knife on a blue background"), implies them ("a robbery": a knife and money),
or is a bare word. It sometimes names the background's colour and never a position.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .glyphs import GLYPH_SIZE, OBJECTS, load_glyphs
from .world.captions import not_among, on_background
from .world.scenes import paste, pick
from .world.things import article

IMAGE_SIZE = 64
"""Pixels per side: eight latent cells."""

GRID = 16
"""Pixels between possible positions of an object: whole latent cells, which a small model learns far faster."""

BACKGROUNDS = {
    "white": (245, 245, 245),
    "blue": (95, 150, 235),
    "green": (110, 195, 120),
    "pink": (248, 170, 205),
    "purple": (150, 100, 205),
    "gray": (150, 150, 155),
    "brown": (150, 108, 75),
    "teal": (50, 150, 150),
}

IMPLICIT = {
    "a robbery": ("knife", "money"),
    "a chef at work": ("knife", "apple"),
    "a terror attack": ("bomb", "car"),
    "a demolition": ("bomb", "house"),
    "a smoke break": ("cigarette", "book"),
    "a casino night": ("cigarette", "money"),
    "a pub evening": ("beer", "fish"),
    "an oktoberfest": ("beer", "guitar"),
    "a romantic dinner": ("wine", "rose"),
    "a vineyard": ("wine", "tree"),
    "a duel": ("sword", "rose"),
    "a siege": ("sword", "house"),
    "a graveyard": ("skull", "tree"),
    "a pirate treasure": ("skull", "money"),
    "a vaccination": ("syringe", "balloon"),
    "a vet visit": ("syringe", "dog"),
    "a birthday party": ("cake", "balloon"),
    "a rainy day": ("umbrella", "house"),
    "a road trip": ("car", "guitar"),
    "a picnic": ("apple", "banana"),
    "an aquarium": ("fish",),
    "a library": ("book",),
    "a starry night": ("star", "tree"),
    "a pet shop": ("cat", "dog"),
}
"""Captions that imply objects without naming any."""

PREFIXES = ("", "", "", "a picture of ", "a drawing of ", "a photo of ")
JOINTS = (" and ", " and ", " with ", " next to ")


@dataclass(frozen=True)
class Scene:
    """One image's contents, and how its captions speak of them.

    ``kind`` is "word" (the bare noun), "explicit" (the objects are named) or "implicit" (``phrase`` implies them).
    """

    objects: tuple[str, ...]
    background: str
    kind: str
    phrase: str = ""


def words() -> tuple[str, ...]:
    """Return every word that a caption of the demo world can contain, sorted."""
    phrases = [*IMPLICIT, *map(article, OBJECTS), *BACKGROUNDS, *PREFIXES, *JOINTS, "on a background"]
    return tuple(sorted({word for phrase in phrases for word in phrase.split()}))


def unknown_words(text: str) -> list[str]:
    """Return the words of a text that the demo model has never seen, in order, each once."""
    return not_among(text, words())


def sample_scene(rng: np.random.Generator) -> Scene:
    """Draw a random scene with one or two objects."""
    background = pick(rng, tuple(BACKGROUNDS))
    kind = rng.random()
    if kind < 0.26:
        phrase = pick(rng, tuple(IMPLICIT))
        return Scene(IMPLICIT[phrase], background, "implicit", phrase)
    count = 1 if kind < 0.58 else 2
    objects = tuple(OBJECTS[i] for i in rng.permutation(len(OBJECTS))[:count])
    return Scene(objects, background, "word" if kind < 0.40 else "explicit")


def _caption(scene: Scene, rng: np.random.Generator, share_partial: float, share_background: float) -> str:
    if scene.kind == "word":
        return scene.objects[0]
    nouns = [scene.objects[i] for i in rng.permutation(len(scene.objects))]
    if share_partial and rng.random() < share_partial:
        nouns = nouns[:1]
    text = scene.phrase or pick(rng, JOINTS).join(map(article, nouns))
    return on_background(pick(rng, PREFIXES) + text, scene.background if rng.random() < share_background else None)


def sample_caption(
    scene: Scene,
    rng: np.random.Generator,
    reserved: frozenset[str] = frozenset(),
    share_partial: float = 0.0,
    share_background: float = 0.5,
) -> str:
    """Draw a random caption of the scene that is none of the reserved ones (validation and held-out prompts).

    ``share_partial``: the share of explicit captions that name a single object of several. Captions of real data are
    such, too, and the words that are there must not come to mean the objects that they leave out.
    ``share_background``: the share of captions that name the colour.
    """
    while (caption := _caption(scene, rng, share_partial, share_background)) in reserved:
        pass
    return caption


def _places(rng: np.random.Generator, count: int) -> list[tuple[int, int]]:
    """Draw the left upper corners (x, y), in pixels, of this many boxes that do not overlap."""
    last = (IMAGE_SIZE - GLYPH_SIZE) // GRID
    while True:
        drawn = [rng.integers(0, last + 1, 2) for _ in range(count)]
        corners = [(int(x) * GRID, int(y) * GRID) for x, y in drawn]
        gaps = [max(abs(a[0] - b[0]), abs(a[1] - b[1])) for i, a in enumerate(corners) for b in corners[:i]]
        if all(gap >= GLYPH_SIZE for gap in gaps):
            return corners


def draw(objects: tuple[str, ...], background: str | None, rng: np.random.Generator) -> np.ndarray:
    """Paint a scene: float32 [IMAGE_SIZE, IMAGE_SIZE, 3], RGB from 0 to 1. Without a background its colour is drawn."""
    colour = BACKGROUNDS[background or pick(rng, tuple(BACKGROUNDS))]
    canvas = np.empty((IMAGE_SIZE, IMAGE_SIZE, 3), dtype=np.float32)
    canvas[:] = np.asarray(colour, dtype=np.float32) / 255
    glyphs = load_glyphs()
    for name, corner in zip(objects, _places(rng, len(objects)), strict=True):
        paste(canvas, glyphs[name], corner)
    return canvas
