"""Prompts to label: starter lists that come with the project, and files of the same form."""

from __future__ import annotations

import codecs
import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path

from lib_gie.assets import PROMPT_LISTS
from lib_gie.checks import quoted
from lib_gie.core.concepts import parse_concepts
from lib_gie.errors import OptionError
from lib_gie.training.labels import Sample

from .doubts import has_words

KINDS = ("explicit", "implicit", "unrelated")

_THINGS, _STYLES = "object", "artist-style"
_DEMO = {_THINGS: "demo-object", _STYLES: "demo-style"}
"""Starter lists with no other words than those that the demo model knows, by the lists in whose places they are."""

_UNLESS_NAMED = "unrelated unless named"
"""Section of prompts that are unrelated, but for those that name the concept: for lists that serve several concepts."""

_SECTION = re.compile(r"\[([^:|\[\]]*)\]")  # one with : or | is prompt editing
_ARTICLE = re.compile(r"\b([Aa]) \{concept\}")
_TAKES_AN = re.compile(
    r"(?!eu|ew|uni(?![nm]|dent)|us[aeiu]|ufo|u[bkrt][aeiou]|on(?:e|ce)\b)[aeiou]|hour|honest|honou?r|heir"
)
"""How words begin that have a vowel's sound at their head, which their first letter mostly tells."""

_NAMES = (*KINDS, _UNLESS_NAMED)
_NEARLY = re.compile(rf"\W*({_UNLESS_NAMED.replace(' ', '[ _-]*')}|{'|'.join(KINDS)})\W*", re.IGNORECASE)
_BOM = "\ufeff"
_ENCODINGS = {
    codecs.BOM_UTF32_LE: "utf-32", codecs.BOM_UTF32_BE: "utf-32",  # before UTF-16's, which is the beginning of one
    codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16",
}  # fmt: skip
_WEBUI_SYNTAX = re.compile(
    r"<\w+:[^>]+>|\bAND\b|\bBREAK\b|\[[^\[\]]*[:|][^\[\]]*\]|\([^()]*:\s*[\d.]+\s*\)",
)


def starter_lists() -> list[str]:
    """Return the names of the lists that come with the project."""
    return sorted(path.stem for path in PROMPT_LISTS.glob("*.txt"))


def starter_list_for(concept: str, is_demo: bool = False, is_style: bool | None = None) -> str:
    """Return the name of the starter list that suits a concept: its own, that of styles, or that of things.

    ``is_demo``: whether it is for the demo model, which knows few words. ``is_style``: whether the concept is a style;
    None: its name tells.
    """
    name = concept.strip().casefold()
    if name in starter_lists():
        return name
    found = _STYLES if is_style or (is_style is None and name.endswith("style")) else _THINGS
    return _DEMO[found] if is_demo else found


def general_list(name: object) -> str | None:
    """Return which of the two lists for whatever is erased a starter list is, "object" or "artist-style", or None.

    Those of the demo model count as those in whose places they are.
    """
    return next((general for general, own in _DEMO.items() if name in (general, own)), None)


def starter_list(name: object) -> str:
    """Return the text of a starter list. Raises OptionError for the name of none."""
    if name not in starter_lists():
        raise OptionError(f"there is no list {quoted(name)}; there are {', '.join(starter_lists())}")
    return (PROMPT_LISTS / f"{name}.txt").read_text(encoding="utf-8")


def parse_prompts(text: str, concept: str, where: str = "the list") -> list[tuple[str, str]]:
    """Return prompts and their kinds ("explicit", "implicit", "unrelated") from a list's text.

    Each line is a prompt. A line ``[kind]``, in any case, says what the following ones are; those before the first are
    explicit. Under ``[unrelated unless named]`` those that name the concept, or are in another section, are left out.
    So are empty lines and those that begin with #. ``{concept}`` becomes the concept, and ``a {concept}`` gets "an"
    where it seems to begin with the sound of a vowel. Raises OptionError for a list without prompts, for one all of
    whose prompts name the concept and are left out, and for a prompt in two sections.
    """
    kind = KINDS[0]
    found: dict[str, str] = {}
    yielding: list[str] = []
    left_out = 0
    for number, line in enumerate(text.removeprefix(_BOM).splitlines(), 1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        if (section := _section(line, f"line {number} of {where}")) is not None:
            kind = section
            continue
        prompt = _with_concept(line, concept)
        if kind == _UNLESS_NAMED:
            named = has_words(prompt, concept)
            left_out += named
            yielding += [] if named else [prompt]
            continue
        if found.setdefault(prompt, kind) != kind:
            raise OptionError(
                f"line {number} of {where} has {prompt[:100]!r} under [{kind}], and it is under [{found[prompt]}] as "
                f"well; leave it in one of them"
            )
    for prompt in yielding:
        found.setdefault(prompt, KINDS[-1])
    if not found and left_out:
        raise OptionError(
            f"{where} has no prompts but those under [{_UNLESS_NAMED}] that name {quoted(concept)}, which are left "
            f"out; write some under [{KINDS[0]}]"
        )
    if not found:
        raise OptionError(f"{where} has no prompts; write one per line")
    return list(found.items())


def _with_concept(line: str, concept: str) -> str:
    if _TAKES_AN.match(_plain_letters(concept)):
        line = _ARTICLE.sub(r"\1n {concept}", line)
    return line.replace("{concept}", concept)


def _plain_letters(text: str) -> str:
    """Return a text in small letters without accents."""
    return "".join(one for one in unicodedata.normalize("NFKD", text.casefold()) if not unicodedata.combining(one))


def _section(line: str, place: str) -> str | None:
    """Return the kind that a line names, None for a prompt. Raises OptionError for what is nearly such a line."""
    section = _SECTION.fullmatch(line)
    kind = " ".join(section[1].split()).casefold() if section else None
    if kind in _NAMES:
        return kind
    nearly = _NEARLY.fullmatch(line)
    if section is None and (nearly is None or nearly[0] == nearly[1]):
        return None
    raise OptionError(f"{place} is {line[:100]}; it must be one of [{'], ['.join(_NAMES)}]")


def all_unrelated(kinds: Sequence[str]) -> bool:
    """Tell whether there is nothing to label."""
    return all(kind == "unrelated" for kind in kinds)


def webui_syntax(text: str) -> str | None:
    """Return the first part of a text that is syntax to the WebUI's prompt parser, None where all of it is words.

    The syntax is extra networks (<lora:...>), AND, BREAK, prompt editing and weights in parentheses.
    """
    found = _WEBUI_SYNTAX.search(text)
    return found[0] if found else None


def without_syntax(prompts: Sequence[tuple[str, str]]) -> list[str]:
    """Return the texts of those prompts that have no such syntax. ``prompts``: as ``parse_prompts`` returns them."""
    return [prompt for prompt, _ in prompts if webui_syntax(prompt) is None]


def load_prompts(name: str | Path, concept: str) -> list[tuple[str, str]]:
    """Read prompts and kinds from a file, or from the starter list of that name. Raises OptionError."""
    path = Path(name)
    if not path.is_file() and str(name) in starter_lists():
        path = PROMPT_LISTS / f"{name}.txt"
    try:
        text = _decoded(path.read_bytes())
    except (OSError, ValueError) as error:
        raise OptionError(
            f"the prompts {str(name)!r} cannot be read ({error}); give a text file with one prompt per line, or one "
            f"of {', '.join(starter_lists())}"
        ) from error
    return parse_prompts(text, concept, path.name)


def _decoded(data: bytes) -> str:
    """Decode UTF-8, with or without a byte order mark, or what another mark says. Raises ValueError for other bytes."""
    encoding = next((name for mark, name in _ENCODINGS.items() if data.startswith(mark)), "utf-8-sig")
    text = data.decode(encoding)
    if "\0" in text:
        raise ValueError("it is no text")
    return text


def samples_of(prompts: list[tuple[str, str]], seeds: range) -> list[Sample]:
    """Return every prompt with every seed."""
    return [Sample(prompt, seed, kind) for prompt, kind in prompts for seed in seeds]


def bare(concept: str) -> str:
    """Return a single concept's text without weight and quotes. Raises OptionError for several."""
    parsed = parse_concepts(concept)
    if len(parsed) != 1:
        raise OptionError(
            f"{quoted(concept)} names {len(parsed)} concepts; labels are made for one at a time, so give one"
        )
    return parsed[0].text
