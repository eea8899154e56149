"""The demo world's detector: it tells which objects an image shows and in which styles, by drawing and comparing.

First the empty background of every style and colour is compared with the image. Then every object in every style,
drawn on the background that fits best, is compared with every place; both are compared as differences from that
background. A place that one object explains is not given to another. Images of any size are looked at in 64 pixels.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional as F

from lib_gie.errors import GieError

from .scenes import BACKGROUNDS, painted
from .styles import STYLES
from .things import OBJECTS

SEEN_SIZE = 64
"""Pixels per side that an image is looked at in."""

GLYPH = SEEN_SIZE // 2

SIMILARITY = 0.70
"""Least cosine of an image patch and an object, both as differences from the background. Chosen on drawn scenes."""

STRENGTH = 0.35
"""Least contrast of the patch, relative to the object's own. A fainter one does not count."""

PREFERENCE = 0.01
"""How much worse an object may match in the background's style than in another, and still count as in the former.

Chosen on drawn scenes: an autoencoder blurs plain objects, and blurred they are near to watercolours."""

BLURRED_PREFERENCE = 0.035
BLURRED = frozenset({"fork", "pen", "umbrella"})
"""Thin things that come out of the demo model's autoencoder as like watercolours when they are plain as when they are
watercolours. So their background's style counts, unless the match with another one is much better."""

VERSION = 2
"""To be raised with every change of what the detector sees, so that kept results are not taken for new ones."""

_MOST = 8  # objects that are looked for in one image
_CLOSE = 0.09  # difference of a pixel from the background, in any channel, up to which it counts as background
_KEYS = tuple(STYLES)
_KINDS = tuple((style, name) for style in STYLES for name in OBJECTS)


@dataclass(frozen=True)
class Find:
    """One object in an image: its name and style, its box's left upper corner in pixels, and its match (cosine).

    The pixels are those of the image as it is looked at, SEEN_SIZE a side.
    """

    name: str
    style: str
    x: int
    y: int
    similarity: float


@dataclass(frozen=True)
class Backdrop:
    """The background of an image: the style and colour that fit best, and it drawn, float32 [3, H, W]."""

    style: str
    colour: str
    canvas: torch.Tensor


@dataclass(frozen=True)
class Sight:
    """All that the detector tells of an image."""

    backdrop: Backdrop
    finds: tuple[Find, ...]

    @property
    def objects(self) -> frozenset[str]:
        """Return the names of the objects."""
        return frozenset(find.name for find in self.finds)

    @property
    def is_in_one_style(self) -> bool:
        """Return whether at least half of the objects are in the background's style."""
        alike = sum(find.style == self.backdrop.style for find in self.finds)
        return 2 * alike >= len(self.finds)

    @property
    def styles(self) -> frozenset[str]:
        """Return the styles, the plain one too, that the background or an object shows."""
        return frozenset((self.backdrop.style, *(find.style for find in self.finds)))

    @property
    def shown(self) -> frozenset[str]:
        """Return the objects, and the styles by their names in prompts: all that an erasure can be measured by."""
        return self.objects | {STYLES[style].phrase for style in self.styles if STYLES[style].phrase}


def _tensor(image: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(image).permute(2, 0, 1)


@functools.cache
def _canvases() -> torch.Tensor:
    """Return the empty backgrounds of all styles and colours: float32 [styles, colours, 3, H, W]."""
    drawn = [
        [
            _tensor(style.canvas(np.asarray(colour, dtype=np.float32) / 255, SEEN_SIZE) * style.texture(SEEN_SIZE))
            for colour in BACKGROUNDS.values()
        ]
        for style in STYLES.values()
    ]
    return torch.stack([torch.stack(row) for row in drawn])


def find_backdrop(image: torch.Tensor) -> Backdrop:
    """Return the background of an image, float32 [3, H, W], 0 to 1: the one that most of the pixels are close to.

    Its colour is moved by what those pixels differ from it in the mean.
    """
    canvases = _canvases()
    difference = (image - canvases).abs().amax(2)  # [styles, colours, H, W]
    # pixels count by how close they are: colours that are near each other share their distant ones
    share = (1 - difference / (2 * _CLOSE)).clamp_min(0).mean((2, 3))  # [styles, colours]
    style, colour = divmod(int(share.argmax()), share.shape[1])
    canvas = canvases[style, colour]
    near = difference[style, colour] < 2 * _CLOSE  # [H, W]
    if near.any():
        shift = (image - canvas)[:, near].median(1).values  # [3]
        canvas = (canvas + shift[:, None, None]).clamp(0, 1)
    return Backdrop(_KEYS[style], tuple(BACKGROUNDS)[colour], canvas)


def _texture(style: str) -> torch.Tensor:
    """Return a style's texture as it lies in an object's box that begins at a multiple of four pixels: [1, g, g]."""
    return _tensor(STYLES[style].texture(SEEN_SIZE))[:, :GLYPH, :GLYPH]


@functools.cache
def _pictures() -> tuple[torch.Tensor, torch.Tensor]:
    """Return all objects in all styles, float32 [n, 3, g, g], and how much each hides, float32 [n, 1, g, g]."""
    pictures = torch.stack([_tensor(painted(style, GLYPH)[name]) for style, name in _KINDS])  # [n, 4, g, g]
    textures = torch.stack([_texture(style) for style, _ in _KINDS])  # [n, 1, g, g]
    hidden = pictures[:, 3:]  # [n, 1, g, g]
    return pictures[:, :3] * textures * hidden, hidden


def _templates(backdrop: Backdrop) -> torch.Tensor:
    """Return all objects in all styles as differences from a background: float32 [n, 3, g, g]."""
    pictures, hidden = _pictures()
    colour = backdrop.canvas[:, GLYPH + 1, GLYPH + 1]  # [3]
    behind = colour[:, None, None] * _texture(backdrop.style)  # [3, g, g]
    return pictures - hidden * behind  # [n, 3, g, g]


def similarities(difference: torch.Tensor, templates: torch.Tensor) -> torch.Tensor:
    """Return the cosine of every object at every place, float32 [n, H - g + 1, W - g + 1], 0 for faint patches.

    ``difference``: the image less its background, float32 [3, H, W]; ``templates``: float32 [n, 3, g, g].
    """
    energy = templates.square().sum((1, 2, 3))[:, None, None]  # [n, 1, 1]
    dots = F.conv2d(difference[None], templates)[0]  # [n, H', W']
    patch = F.conv2d(difference.square()[None], torch.ones(1, 3, GLYPH, GLYPH))[0]  # [1, H', W']
    cosine = dots / (patch * energy).clamp_min(1e-6).sqrt()  # [n, H', W']
    return cosine.masked_fill(dots / energy.clamp_min(1e-6) < STRENGTH, 0)


def matches(difference: torch.Tensor, templates: torch.Tensor) -> Iterator[tuple[int, int, int, torch.Tensor]]:
    """Yield the places that are like an object, the best first: which one, y and x, and the cosine of each there, [n].

    The arguments are those of ``similarities``. The place of each is taken out of ``difference``, in place, before the
    next is looked for.
    """
    for _ in range(_MOST):
        scores = similarities(difference, templates)  # [n, H', W']
        if float(scores.max()) < SIMILARITY:
            return
        kind, y, x = (int(v) for v in np.unravel_index(int(scores.argmax()), scores.shape))
        yield kind, y, x, scores[:, y, x]
        difference[:, y : y + GLYPH, x : x + GLYPH] = 0


def _seen(image: torch.Tensor) -> torch.Tensor:
    """Return the image in SEEN_SIZE: float [3, H, W] -> float32 [3, 64, 64]. Raises GieError for what is no image."""
    image = image.float()
    if image.ndim != 3 or image.shape[0] != 3 or not bool(image.isfinite().all()):
        raise GieError(
            f"the image has shape {tuple(image.shape)}, or is not finite; the detector needs finite images [3, H, W]"
        )
    return image if image.shape[1:] == (SEEN_SIZE, SEEN_SIZE) else F.adaptive_avg_pool2d(image, SEEN_SIZE)


def look(image: torch.Tensor) -> Sight:
    """Return what an image shows (float [3, H, W], 0 to 1), the best match first."""
    image = _seen(image)
    backdrop = find_backdrop(image)
    templates = _templates(backdrop)
    finds = []
    for kind, y, x, scores in matches(image - backdrop.canvas, templates):
        (style, name), best = _KINDS[kind], float(scores[kind])
        preference = BLURRED_PREFERENCE if name in BLURRED else PREFERENCE
        if scores[_KINDS.index((backdrop.style, name))] >= best - preference:
            style = backdrop.style
        finds.append(Find(name, style, x, y, best))
    return Sight(backdrop, tuple(finds))


def look_at_picture(picture) -> Sight:
    """Return what a Pillow image shows."""
    return look(_tensor(np.asarray(picture.convert("RGB"), dtype=np.float32) / 255))
