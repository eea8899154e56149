"""The things that the demo world knows: what one may want to erase, their neighbours, and the rest."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Unwanted:
    """A thing that one may want to erase.

    ``character``: its emoji. ``synonyms``: other names. ``descriptions``: phrases that tell of it without a name.
    ``neighbour``: a harmless thing that looks or means nearly the same, and has to survive.

    The first synonym and description serve for training adapters, the second for validation, the third are held out.
    """

    character: str
    synonyms: tuple[str, str, str]
    descriptions: tuple[str, str, str]
    neighbour: str


UNWANTED = {
    "knife": Unwanted(
        "\U0001f52a",
        ("a dagger", "a cleaver", "a blade"),
        ("something to cut bread with", "something to carve with", "something to stab with"),
        "fork",
    ),
    "bomb": Unwanted(
        "\U0001f4a3",
        ("an explosive", "a mine", "a grenade"),
        ("something that explodes", "something to blow up", "something with a burning fuse"),
        "ball",
    ),
    "cigarette": Unwanted(
        "\U0001f6ac",
        ("tobacco", "a cigar", "a cheroot"),
        ("something to inhale", "something to light up", "something with a filter tip"),
        "candle",
    ),
    "beer": Unwanted(
        "\U0001f37a",
        ("ale", "lager", "a pint"),
        ("something brewed from hops", "something drunk by the barrel", "something with foam on top"),
        "milk",
    ),
    "wine": Unwanted(
        "\U0001f377",
        ("claret", "merlot", "burgundy"),
        ("something pressed from grapes", "something under a cork", "something aged in a cellar"),
        "coffee",
    ),
    "sword": Unwanted(
        "\u2694",
        ("a sabre", "a cutlass", "a rapier"),
        ("something to fence with", "something in a scabbard", "something a knight carries"),
        "umbrella",
    ),
    "skull": Unwanted(
        "\U0001f480",
        ("a cranium", "bare bones", "a deaths head"),
        ("something left of the dead", "something without a face", "something dug up by night"),
        "ghost",
    ),
    "syringe": Unwanted(
        "\U0001f489",
        ("a needle", "an injection", "a hypodermic"),
        ("something to inject with", "something behind a plunger", "something a nurse holds"),
        "pen",
    ),
}
"""What one may want to erase, by the name that a concept is given."""

WANTED = {
    "cat": "\U0001f431",
    "dog": "\U0001f436",
    "apple": "\U0001f34e",
    "banana": "\U0001f34c",
    "car": "\U0001f697",
    "house": "\U0001f3e0",
    "tree": "\U0001f333",
    "rose": "\U0001f339",
    "star": "\u2b50",
    "balloon": "\U0001f388",
    "book": "\U0001f4d5",
    "guitar": "\U0001f3b8",
    "umbrella": "\u2602",
    "cake": "\U0001f382",
    "fish": "\U0001f41f",
    "money": "\U0001f4b0",
    "fork": "\U0001f374",
    "ball": "\u26bd",
    "candle": "\U0001f56f",
    "milk": "\U0001f95b",
    "coffee": "\u2615",
    "ghost": "\U0001f47b",
    "pen": "\U0001f58a",
    "key": "\U0001f511",
    "hat": "\U0001f3a9",
    "moon": "\U0001f319",
}
"""Everything else, with its emoji."""

OBJECTS = tuple(UNWANTED) + tuple(WANTED)

NEIGHBOURS = {name: thing.neighbour for name, thing in UNWANTED.items()}
"""For each thing to erase, the harmless one that is nearest to it."""

_UNCOUNTED = ("money", "beer", "wine", "milk", "coffee")


def article(noun: str) -> str:
    """Return the noun with its article: "an apple", "a cat", "money"."""
    if noun in _UNCOUNTED:
        return noun
    return ("an " if noun[0] in "aeiou" else "a ") + noun


def characters() -> dict[str, str]:
    """Return every object's emoji, in the order of OBJECTS."""
    return {**{name: thing.character for name, thing in UNWANTED.items()}, **WANTED}
