"""How captions speak of the demo world's scenes, and which words they are made of.

A caption names its objects ("a cat and a knife on a blue background"), by other words ("a dagger", "something to stab
with"), implies them ("a robbery": a knife and money), is a bare word, or says that there is nothing. It names the
background at its end or like a thing ("a red background and a cat"). A style that is not plain is named ("a pencil
sketch of a cat", "a cat, pencil sketch") or implied ("a cat in the manner of leonardo").
Words that mean nothing ("detailed") may follow. No caption tells of a position.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lib_gie.errors import GieError

from .scenes import BACKGROUNDS, IMPLICIT, Scene, pick
from .styles import STYLES
from .things import OBJECTS, UNWANTED, article

PREFIXES = ("", "", "", "a picture of ", "a drawing of ", "a photo of ")
JOINTS = (" and ", " and ", " with ", " next to ")
NOTHING = "nothing"
_MOST_TRIES = 1000

FILLERS = (
    "detailed",
    "sharp",
    "beautiful",
    "best quality",
    "masterpiece",
    "soft light",
    "centered",
    "trending",
    "famous",
    "clean",
    "award winning",
    "intricate",
)
"""Words on which no image depends. People write them, and long prompts are made of them."""


@dataclass(frozen=True)
class Shares:
    """How often captions do what.

    ``partial``: of captions with several named objects, those that name a single one. Captions of real data are such,
    too, and the words that are there must not come to mean the objects that they leave out. ``background``: those that
    name the colour. ``synonym``, ``described``: of the mentions of a thing to erase, those by another name and those by
    a description. ``untold``: of the captions of scenes without objects, those that do not say so: a noun that is taken
    away is to leave an empty place, not another thing. ``beside``: of the captions that mention things or nothing,
    those that mention the background as one of them ("a cat and a red background") or, where its colour is not named,
    NOTHING ("nothing and a cat"): an article or a joint is to promise no object. ``implied_style``: of the captions in
    a style, those that imply it. ``filled``: those with words that mean nothing; ``most_fillers`` is how many at most.
    """

    partial: float = 0.0
    background: float = 0.5
    synonym: float = 0.3
    described: float = 0.15
    untold: float = 0.6
    beside: float = 0.3
    implied_style: float = 0.4
    filled: float = 0.1
    most_fillers: int = 4


@functools.cache
def words() -> tuple[str, ...]:
    """Return every word that a caption of the demo world can contain, sorted."""
    phrases = [*IMPLICIT, *map(article, OBJECTS), *BACKGROUNDS, *PREFIXES, *JOINTS, *FILLERS, NOTHING]
    phrases += ["on a background"]
    for thing in UNWANTED.values():
        phrases += [*thing.synonyms, *thing.descriptions]
    for style in STYLES.values():
        phrases += [style.phrase, *style.implied]
    return tuple(sorted({word for phrase in phrases for word in phrase.split()}))


def unknown_words(text: str) -> list[str]:
    """Return the words of a text that the demo model has never seen, in order, each once."""
    found, known = re.findall(r"[^\W_]+", text.lower()), words()
    return list(dict.fromkeys(word for word in found if word not in known))


def joined(mentions: Sequence[str], joint: str) -> str:
    """Return mentions as one phrase: commas between all but the last two, the joint between those."""
    return joint.join(filter(None, (", ".join(mentions[:-1]), mentions[-1])))


def on_background(caption: str, background: str | None) -> str:
    """Return the caption with its background colour, if any, named at the end."""
    return caption if background is None else f"{caption} on a {background} background"


def in_style(caption: str, prefix: str, phrase: str, leading: bool) -> str:
    """Return the caption in a style.

    ``prefix``: how it begins without a style ("a photo of "). ``phrase``: the style's, named or implied, or empty.
    ``leading``: the caption begins with the style's name ("a pencil sketch of a cat") instead of ending with it.
    """
    if not phrase:
        return prefix + caption
    if leading:
        return f"{article(phrase)} of {caption}"
    separator = " " if phrase.startswith(("in ", "from ")) else ", "
    return f"{prefix}{caption}{separator}{phrase}"


def filled(caption: str, fillers: Sequence[str]) -> str:
    """Return the caption followed by words that mean nothing."""
    return ", ".join((caption, *fillers))


def mention(name: str, rng: np.random.Generator, shares: Shares) -> str:
    """Return an object as a caption may mention it: by its name, another name or a description."""
    thing, way = UNWANTED.get(name), rng.random()
    if thing is not None and way < shares.described:
        return pick(rng, thing.descriptions)
    if thing is not None and way < shares.described + shares.synonym:
        return pick(rng, thing.synonyms)
    return article(name)


def style_phrase(style: str, rng: np.random.Generator, shares: Shares) -> str:
    """Return a phrase for a style, its name or one that implies it; empty for the plain one."""
    found = STYLES[style]
    return pick(rng, found.implied) if found.implied and rng.random() < shares.implied_style else found.phrase


def without_things(prefix: str, background: str | None, phrase: str, leading: bool) -> str:
    """Return a caption that says nothing of what the image shows ("a photo on a blue background", "a pencil sketch").

    The arguments are those of ``in_style`` and ``on_background``. Where they say nothing at all it is NOTHING.
    """
    medium = article(phrase) if leading else prefix.removesuffix(" of ")
    if background is None:
        text = medium
    else:
        text = on_background(medium, background) if medium else f"{article(background)} background"
    if not phrase or leading:
        return text or NOTHING
    return in_style(text or NOTHING, "", phrase, False)


def _mentions(scene: Scene, rng: np.random.Generator, shares: Shares) -> list[str]:
    """Return what a caption mentions of the scene's objects, or the phrase that implies them."""
    if scene.phrase:
        return [scene.phrase]
    nouns = [scene.objects[i] for i in rng.permutation(len(scene.objects))]
    if shares.partial and rng.random() < shares.partial:
        nouns = nouns[:1]
    return [mention(name, rng, shares) for name in nouns]


def _body(scene: Scene, background: str | None, rng: np.random.Generator, shares: Shares) -> str:
    """Return the caption without prefix and style. ``background``: the colour that it is to name, if any."""
    mentions, joint = _mentions(scene, rng, shares), pick(rng, JOINTS)
    if rng.random() >= shares.beside:
        return on_background(joined(mentions or [NOTHING], joint), background)
    empty = NOTHING if background is None else f"{article(background)} background"
    mentions.insert(int(rng.integers(len(mentions) + 1)), empty)
    return joined(mentions, joint)


def _caption(scene: Scene, rng: np.random.Generator, shares: Shares) -> str:
    phrase = style_phrase(scene.style, rng, shares)
    if scene.kind == "word":
        named = mention(scene.objects[0], rng, shares)
        bare = scene.objects[0] if named == article(scene.objects[0]) else named
        return in_style(bare, "", phrase, False)
    background = scene.background if rng.random() < shares.background else None
    leading = bool(phrase) and phrase == STYLES[scene.style].phrase and rng.random() < 0.5
    prefix = pick(rng, PREFIXES)
    if scene.kind == "nothing" and rng.random() < shares.untold:
        text = without_things(prefix, background, phrase, leading)
    else:
        text = in_style(_body(scene, background, rng, shares), prefix, phrase, leading)
    if rng.random() < shares.filled:
        count = int(rng.integers(1, shares.most_fillers + 1))
        text = filled(text, [pick(rng, FILLERS) for _ in range(count)])
    return text


def sample_caption(
    scene: Scene, rng: np.random.Generator, shares: Shares, reserved: frozenset[str] = frozenset()
) -> str:
    """Draw a random caption of the scene that is none of the reserved ones (validation and held-out prompts).

    Raises GieError where all that the scene can be told by seems to be reserved.
    """
    for _ in range(_MOST_TRIES):
        if (caption := _caption(scene, rng, shares)) not in reserved:
            return caption
    raise GieError(f"every caption of {scene} is reserved; draw the splits anew with other prompts")
