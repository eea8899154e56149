"""Presets: names that people press instead of typing concepts. A host that has a page offers them.

A text holds them, one a line: a name, a colon and the concepts, as in ``nudity: nudity, naked``.
"""

from __future__ import annotations

from dataclasses import dataclass

from lib_gie.checks import quoted
from lib_gie.core.concepts import format_concepts, parse_concepts
from lib_gie.errors import ConceptError, OptionError

PRESETS = """\
nudity: nudity, naked
violence: violence, blood
van gogh style: van gogh style
knife: knife"""
"""What a host offers that has no presets of its own."""

MOST_PRESETS, MOST_CHARACTERS = 24, 40
"""The most presets of a text, and the most characters of a name, that a page has room for."""


@dataclass(frozen=True)
class Preset:
    """A name, and the text of the concepts that it stands for."""

    name: str
    concepts: str

    def added_to(self, text: str) -> str:
        """Return a concept text with this preset's concepts after its own, each once.

        A text that cannot be read stays as it is, because it must be corrected first.
        """
        if not text.strip():
            return self.concepts
        try:
            there = {concept.key for concept in parse_concepts(text)}
        except ConceptError:
            return text
        lacking = [concept for concept in parse_concepts(self.concepts) if concept.key not in there]
        return f"{text.rstrip().rstrip(',;')}, {format_concepts(lacking)}" if lacking else text


def _read_line(number: int, line: str) -> Preset:
    where = f"line {number} of the presets is {quoted(line)}"
    name, colon, concepts = (part.strip() for part in line.partition(":"))
    if not (name and colon and concepts):
        raise OptionError(f"{where}; it must be a name, a colon and concepts, for example: nudity: nudity, naked")
    if len(name) > MOST_CHARACTERS:
        raise OptionError(f"{where}; its name has {len(name)} characters, and at most {MOST_CHARACTERS} fit a button")
    try:
        parse_concepts(concepts)
    except ConceptError as error:
        raise OptionError(f"{where}; its concepts cannot be read: {error}") from error
    return Preset(name, concepts)


def read_presets(text: str) -> tuple[Preset, ...]:
    """Return the presets of a text in their order. Lines without anything in them are skipped.

    Raises OptionError, which names the line, for a line that cannot be read, for a name that is there twice, and for
    more than ``MOST_PRESETS``.
    """
    if not isinstance(text, str):
        raise OptionError(f"the presets are {quoted(text)}; they must be a text with one preset a line")
    lines = [(number, line.strip()) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
    presets: dict[str, Preset] = {}
    for number, line in lines:
        preset = _read_line(number, line)
        if preset.name in presets:
            raise OptionError(f"line {number} of the presets has the name {quoted(preset.name)} again; take another")
        presets[preset.name] = preset
    if len(presets) > MOST_PRESETS:
        raise OptionError(f"there are {len(presets)} presets; a page has room for {MOST_PRESETS}, so leave some out")
    return tuple(presets.values())
