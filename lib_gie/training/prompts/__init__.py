"""Prompts to label: starter lists that come with the project, and files of the same form."""

from __future__ import annotations

import re
from pathlib import Path

from ...checks import quoted
from ...concepts import parse_concepts
from ...errors import OptionError
from ..labels import Sample

FOLDER = Path(__file__).parent
KINDS = ("explicit", "implicit", "unrelated")
_SECTION = re.compile(r"\[(\w+)\]")


def starter_lists() -> list[str]:
    """The names of the lists that come with the project."""
    return sorted(path.stem for path in FOLDER.glob("*.txt"))


def parse_prompts(text: str, concept: str, where: str = "the list") -> list[tuple[str, str]]:
    """Prompts and their kinds ("explicit", "implicit", "unrelated") from a list's text.

    One prompt per line; ``[kind]`` lines say what the following ones are (before the first: explicit); empty lines and
    those that begin with # are left out; ``{concept}`` becomes the concept. Raises OptionError.
    """
    kind, found = KINDS[0], {}
    for number, line in enumerate(text.splitlines(), 1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        section = _SECTION.fullmatch(line)
        if section is None:
            found.setdefault(line.replace("{concept}", concept), kind)
        elif section[1] in KINDS:
            kind = section[1]
        else:
            raise OptionError(f"line {number} of {where} is {line}; it must be one of [{'], ['.join(KINDS)}]")
    if not found:
        raise OptionError(f"{where} has no prompts; write one per line")
    return list(found.items())


def load_prompts(name: str | Path, concept: str) -> list[tuple[str, str]]:
    """Prompts and kinds from a file, or from the starter list of that name."""
    path = Path(name)
    if not path.is_file() and str(name) in starter_lists():
        path = FOLDER / f"{name}.txt"
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise OptionError(
            f"the prompts {str(name)!r} cannot be read ({error}); give a text file with one prompt per line, or one "
            f"of {', '.join(starter_lists())}"
        ) from error
    return parse_prompts(text, concept, path.name)


def samples_of(prompts: list[tuple[str, str]], seeds: range) -> list[Sample]:
    """Every prompt with every seed."""
    return [Sample(prompt, seed, kind) for prompt, kind in prompts for seed in seeds]


def bare(concept: str) -> str:
    """A single concept's text without weight and quotes. Raises OptionError for several."""
    parsed = parse_concepts(concept)
    if len(parsed) != 1:
        raise OptionError(
            f"{quoted(concept)} names {len(parsed)} concepts; an adapter's labels are made for one at a time"
        )
    return parsed[0].text
