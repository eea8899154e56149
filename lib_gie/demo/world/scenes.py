"""The scenes that the demo model is trained on: up to three objects on a background, in a style."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from lib_gie.demo.sampling_settings import SIZE

from .glyphs import load_glyphs
from .styles import NAMED_STYLES, STYLES
from .things import OBJECTS

T = TypeVar("T")

BACKGROUNDS = {
    "white": (245, 245, 245),
    "blue": (95, 150, 235),
    "green": (110, 195, 120),
    "pink": (248, 170, 205),
    "purple": (150, 100, 205),
    "gray": (150, 150, 155),
    "brown": (150, 108, 75),
    "teal": (50, 150, 150),
    "red": (205, 60, 55),
    "yellow": (246, 214, 84),
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
    "a butcher shop": ("knife", "fish"),
    "a controlled blast": ("bomb", "tree"),
    "a noir film": ("cigarette", "hat"),
    "a brewery tour": ("beer", "house"),
    "a cheese tasting": ("wine", "apple"),
    "a gladiator fight": ("sword", "hat"),
    "a voodoo ritual": ("skull", "candle"),
    "a blood test": ("syringe", "pen"),
    "a birthday party": ("cake", "balloon"),
    "a rainy day": ("umbrella", "house"),
    "a road trip": ("car", "guitar"),
    "a picnic": ("apple", "banana"),
    "an aquarium": ("fish",),
    "a library": ("book",),
    "a starry night": ("star", "tree"),
    "a pet shop": ("cat", "dog"),
    "a cup final": ("ball",),
    "a halloween party": ("ghost", "candle"),
    "a school exam": ("pen", "book"),
    "a breakfast": ("milk", "coffee"),
    "a magic show": ("hat", "star"),
    "a locksmith": ("key",),
}
"""Captions that imply objects without naming any.

Each thing to erase has three: the first serves for training adapters, the second for that and for validation, the last
is held out.
"""

KINDS = ("nothing", "word", "named", "implied")
_SHARES = (0.22, 0.09, 0.49, 0.20)
_SHARES_OF_COUNTS = (0.36, 0.44, 0.20)  # one, two, three objects, where they are named
_SHARE_PLAIN = 0.4


@dataclass(frozen=True)
class Scene:
    """One image's contents, and how its captions speak of them.

    ``kind``: "nothing" (no object), "word" (the bare noun), "named" (the objects are named, by whatever words) or
    "implied" (``phrase`` implies them). ``style``: a key of STYLES.
    """

    objects: tuple[str, ...]
    background: str
    kind: str
    phrase: str = ""
    style: str = "plain"


def pick(rng: np.random.Generator, options: Sequence[T]) -> T:
    """Draw one of the options."""
    return options[int(rng.integers(len(options)))]


def sample_scene(rng: np.random.Generator, style: str | None = None) -> Scene:
    """Draw a random scene. ``style``: None to draw it as well."""
    background = pick(rng, tuple(BACKGROUNDS))
    if style is None:
        style = "plain" if rng.random() < _SHARE_PLAIN else pick(rng, NAMED_STYLES)
    kind = KINDS[int(rng.choice(len(KINDS), p=_SHARES))]
    if kind == "implied":
        phrase = pick(rng, tuple(IMPLICIT))
        return Scene(IMPLICIT[phrase], background, kind, phrase, style)
    count = 1 + int(rng.choice(3, p=_SHARES_OF_COUNTS)) if kind == "named" else int(kind == "word")
    objects = tuple(OBJECTS[i] for i in rng.permutation(len(OBJECTS))[:count])
    return Scene(objects, background, kind, "", style)


def places(rng: np.random.Generator, count: int, size: int = SIZE) -> list[tuple[int, int]]:
    """Draw the left upper corners (x, y), in pixels, of this many boxes that do not overlap.

    Objects lie a quarter of the side apart, which is whole latent cells: a small model learns that far faster.
    """
    step, glyph = size // 4, size // 2
    while True:
        drawn = rng.integers(0, 3, (count, 2)) * step  # [count, 2]
        gaps = [int(np.abs(a - b).max()) for i, a in enumerate(drawn) for b in drawn[:i]]
        if all(gap >= glyph for gap in gaps):
            return [(int(x), int(y)) for x, y in drawn]


@functools.cache
def painted(style: str, glyph: int) -> dict[str, np.ndarray]:
    """Return every object's picture in a style: float32 [glyph, glyph, 4], RGBA from 0 to 1."""
    return {name: STYLES[style].paint(picture) for name, picture in load_glyphs(glyph).items()}


def paste(canvas: np.ndarray, picture: np.ndarray, corner: tuple[int, int]) -> None:
    """Put an object's picture (float [g, g, 4]) onto a canvas (float [H, W, 3]), in place."""
    x, y = corner
    box = canvas[y : y + picture.shape[0], x : x + picture.shape[1]]
    alpha = picture[..., 3:]
    box *= 1 - alpha
    box += alpha * picture[..., :3]


def draw(
    objects: Sequence[str],
    background: str,
    style: str,
    corners: Sequence[tuple[int, int]],
    size: int = SIZE,
) -> np.ndarray:
    """Paint objects, half of the image's side each, at their corners: float32 [size, size, 3], RGB from 0 to 1."""
    canvas = STYLES[style].canvas(np.asarray(BACKGROUNDS[background], dtype=np.float32) / 255, size)
    for name, corner in zip(objects, corners, strict=True):
        paste(canvas, painted(style, size // 2)[name], corner)
    return canvas * STYLES[style].texture(size)


def draw_scene(scene: Scene, rng: np.random.Generator, size: int = SIZE) -> np.ndarray:
    """Paint a scene with its objects at random places: float32 [size, size, 3], RGB from 0 to 1."""
    corners = places(rng, len(scene.objects), size)
    return draw(scene.objects, scene.background, scene.style, corners, size)
