"""What the infotexts of a generation's pictures say: which image each shows, and what was erased from it.

The WebUI's page keeps them beside what it was told of the generation. They can say something else than that: the
WebUI's button for upscaling puts another picture and its infotext in the place of a picture, and changes nothing else.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from lib_gie.core.concepts import parse_concepts
from lib_gie.errors import GieError
from lib_gie.hosts.webui.request.infotext import ENFORCED, SCALE, read_scales
from lib_gie.options import BY_NAME

CONCEPTS = BY_NAME["concepts"].infotext
NO_SCALE = 0.005
"""A scale below this is shown as 0.00, and the concept as not erased."""

Settings = Mapping[str, str]
"""An infotext's settings by their keys."""

Image = tuple[str | None, str | None]
"""An image of a job, by its seed and variation seed."""

_SEED, _SUBSEED = "Seed", "Variation seed"
_TOKEN = re.compile(r'(?<=: )"(?:[^"\\]|\\.)*(?:"|\\?$)|[^",]+|"|,')  # a quoted value can have commas


def _split(infotext: str) -> tuple[str, str]:
    """Return an infotext's prompts, both in one, and its line of settings."""
    lines = infotext.strip().split("\n")
    places = [place for place, one in enumerate(lines) if f"{_SEED}: " in one]
    place = places[-1] if places else len(lines) - 1  # scripts may add lines to it
    return "\n".join(lines[:place]), lines[place]


def prompts_of(infotext: str) -> str:
    """Return an infotext's prompt and negative prompt, in one text."""
    return _split(infotext)[0]


def settings_of(infotext: Any) -> dict[str, str]:
    """Return an infotext's settings, none for what is no text. Prompts are left out, whatever they say."""
    line = _split(infotext)[1] if isinstance(infotext, str) else ""
    fields: list[list[str]] = [[]]
    for token in _TOKEN.findall(line):
        if token == ",":
            fields.append([])
        else:
            fields[-1].append(token)
    parts = ("".join(field).partition(":") for field in fields)
    return {key.strip(): _unquoted(value.strip()) for key, colon, value in parts if colon}


def _unquoted(value: str) -> str:
    if not value.startswith('"'):
        return value
    try:
        return str(json.loads(value))
    except ValueError:
        return value


def kept_texts(kept: Mapping[str, Any]) -> list[dict[str, str]]:
    """Return the settings of all pictures of a generation. ``kept``: what the page keeps of it, read from its JSON."""
    return [settings_of(text) for text in kept["infotexts"]]


def image_in(settings: Settings) -> Image:
    """Return which of the job's images a picture shows."""
    return settings.get(_SEED), settings.get(_SUBSEED)


def first_places(texts: Sequence[Settings], start: int) -> dict[Image, int]:
    """Return where each image is first shown, from the picture ``start`` on.

    That is its result: a grid is before the results, and what is shown of them comes after.
    """
    places: dict[Image, int] = {}
    for place, settings in enumerate(texts[start:], start):
        places.setdefault(image_in(settings), place)
    return places


def is_erased(settings: Settings) -> bool:
    """Tell whether something that the user asked for was erased from a picture."""
    return CONCEPTS in settings


def keys_in(settings: Settings, name: str) -> list[str] | None:
    """Return the keys of the concepts in an infotext, of CONCEPTS or ENFORCED. None: they cannot be read."""
    try:
        return [concept.key for concept in parse_concepts(settings[name])] if name in settings else []
    except GieError:
        return None


class OwnInfotexts:
    """Finds the infotext of each image of a job among those that the page keeps. ``kept``: as ``kept_texts`` has it."""

    def __init__(self, kept: Mapping[str, Any]):
        self._texts = kept_texts(kept)
        self._places = first_places(self._texts, kept.get("index_of_first_image", 0))
        self._seeds, self._subseeds = kept["all_seeds"], kept.get("all_subseeds") or ()

    def _of(self, number: int) -> Settings:
        """Return the settings of an image of the job; none where it is not there."""
        if not 0 <= number < len(self._seeds):
            return {}
        seed = str(self._seeds[number])
        subseeds = [None, str(self._subseeds[number])] if number < len(self._subseeds) else [None]
        found = [self._places[seed, subseed] for subseed in subseeds if (seed, subseed) in self._places]
        return self._texts[min(found)] if found else {}

    def confirm(self, number: int, entry: Mapping[str, Any]) -> bool:
        """Tell whether the infotext of an image of the job says what an entry of the read-out says."""
        settings, name = self._of(number), ENFORCED if entry["always"] else CONCEPTS
        keys = keys_in(settings, name)
        if name not in settings or keys is None:
            return name in settings
        key = str(entry["concept"]).casefold()
        return key in keys and (bool(entry["always"]) or _agrees(settings, keys.index(key), len(keys), entry["scale"]))


def _agrees(settings: Settings, number: int, count: int, scale: Any) -> bool:
    """Tell whether an infotext and a read-out agree that a concept was erased, or that it was not."""
    try:
        scales: Sequence[float] = read_scales(settings[SCALE])
        return len(scales) != count or (abs(scales[number]) < NO_SCALE) == (abs(float(scale)) < NO_SCALE)
    except (ValueError, LookupError, TypeError, OverflowError):
        return True
