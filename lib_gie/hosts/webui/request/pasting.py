"""Reads an infotext back into the request that made its image. The user is told of what cannot be understood.

Nothing that cannot be understood switches erasing off.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lib_gie.checks import quoted
from lib_gie.core.concepts import NUMBER, Concept, format_concepts, parse_concepts
from lib_gie.errors import AdapterError, GieError, OptionError
from lib_gie.options import AUTOMATIC, BY_NAME, FIXED

from .infotext import ADAPTERS, ALL_KEYS, ENFORCED, ENFORCED_SCALE, FLAGS, NAME_AND_HASH, SCALE, SHARES, read_scales
from .parsing import Request

RAW = "GIE infotext"
"""The key under which the page keeps the whole infotext, beside what the WebUI has read of it."""

ENABLED = "GIE enabled"
"""The name of the accordion's tick among the fields that a user can have disregarded; no infotext has this key."""

_CONCEPTS = BY_NAME["concepts"].infotext
_LOST = "[object Object]"  # what sites make of a value that they do not know
_OURS = re.compile(r"gie\b", re.IGNORECASE)
_STOP = re.compile(r",|:\s*(?=\")")
_STRING = re.compile(r'"(?:[^"\\]|\\.)*"(?=,|$)')
_ENTRY = re.compile(r"\s*\w[\w \-/]+: ")
_MOST_SAID = 6

FindAdapter = Callable[[str, str | None], str]
"""Finds an adapter's name here by its recorded name and hash, if any. Raises AdapterError where none is the same."""


@dataclass(frozen=True)
class Here:
    """This WebUI, as an infotext meets it.

    ``find``: finds a recorded adapter. ``skipped``: keys that are disregarded. ``enforced``: the keys of concepts that
    are erased anyway. ``factor``: returns by which factor w grows with the emphasis of a prompt that these concepts
    are erased from.
    """

    find: FindAdapter
    skipped: frozenset[str] = frozenset()
    enforced: frozenset[str] = frozenset()
    factor: Callable[[str, Sequence[Concept]], float] = lambda prompt, concepts: 1.0


def may_be_ours(infotext: str) -> bool:
    """Tell whether there can be anything about growth inhibitors in an infotext."""
    return _OURS.search(infotext) is not None


# -- what is written ------------------------------------------------


def _fields(line: str) -> list[str]:
    """Split a line of settings at its commas, but not at those in quoted values."""
    fields, start, position = [], 0, 0
    while mark := _STOP.search(line, position):
        position = mark.end()
        if mark[0] == ",":
            fields.append(line[start : mark.start()])
            start = position
        elif string := _STRING.match(line, position):
            position = string.end()
        else:
            position += 1
    return [*fields, line[start:]]


def _is_a_rest(field: str) -> bool:
    """Tell whether a field can belong to concepts whose quotes are lost: "wine:0.5" can, "Version: 1" cannot."""
    name, _, value = field.strip().partition(":")
    return not _ENTRY.match(field) or (name[:1].islower() and NUMBER.fullmatch(value.strip()) is not None)


def _unquoted(value: str) -> str:
    if len(value) < 2 or not value.startswith('"') or not value.endswith('"'):
        return value
    try:
        found = json.loads(value)
    except ValueError:
        return value
    return found if isinstance(found, str) else value


def _entries(line: str, problems: list[str]) -> dict[str, str]:
    """Return our keys and values in one line. What is wrong with them is added to ``problems``."""
    found: dict[str, str] = {}
    fields = _fields(line)
    for number, field in enumerate(fields):
        key, colon, value = (part.strip() for part in field.partition(":"))
        if not colon or not _OURS.match(key):
            continue
        if key in found:
            problems.append(f"{quoted(key)} is there twice")
        if key in (_CONCEPTS, ENFORCED) and not value.startswith('"'):
            rest = _rest(fields[number + 1 :])
            if rest:
                problems.append(f"the quotes around {key} are lost")
                value = ",".join([value, *rest])
        found[key] = _unquoted(value)
    return found


def _rest(fields: list[str]) -> list[str]:
    count = next((number for number, field in enumerate(fields) if not _is_a_rest(field)), len(fields))
    return fields[:count]


def _elsewhere(lines: list[str]) -> dict[str, str]:
    """Return our keys and values in a line of the prompt, where an editor may have put the concepts."""
    for line in lines:
        found = _entries(line, []) if _CONCEPTS in line or ENFORCED in line else {}
        if _CONCEPTS in found or ENFORCED in found:
            return found
    return {}


def _written(params: Mapping[str, Any], skipped: frozenset[str], problems: list[str]) -> dict[str, str]:
    """Return our keys and values as they stand in the infotext; where that is not known, as the WebUI has read them."""
    read = {key: str(value).strip() for key, value in params.items() if _OURS.match(key) and key != RAW}
    read = {key: value for key, value in read.items() if key not in skipped}
    if RAW not in params:
        return read
    *others, last = params[RAW].strip().split("\n")
    found = _entries(last, problems) or _elsewhere(others)
    found = {key: value for key, value in found.items() if key not in skipped}
    if read != found and not problems:
        differing = (key for key in {**read, **found} if read.get(key) != found.get(key))
        problems += [f"{quoted(key)} does not stand where and as it is read" for key in differing]
    return {**read, **found}


# -- what it means ------------------------------------------------


def _number(text: str) -> float:
    if not NUMBER.fullmatch(text):
        raise OptionError(f"{quoted(text)} must be a number")
    return float(text)


def _pair(text: str, between: str) -> tuple[float, float]:
    parts = text.split(between)
    if len(parts) != 2:
        raise OptionError(f'it must be two numbers with "{between.strip()}" between them')
    return _number(parts[0]), _number(parts[1])


def _read_number(name: str) -> Callable[[str], dict[str, Any]]:
    return lambda text: {name: BY_NAME[name].check(_number(text))}


def _read_choice(name: str) -> Callable[[str], dict[str, Any]]:
    return lambda text: {name: BY_NAME[name].check(text)}


def _read_flag(name: str) -> Callable[[str], dict[str, Any]]:
    return lambda text: {name: BY_NAME[name].check({"True": True, "False": False}.get(text, text))}


def _read_steps(text: str) -> dict[str, Any]:
    start, end = _pair(text, " to ")
    values = {"start": BY_NAME["start"].check(start), "end": BY_NAME["end"].check(end)}
    Request((Concept("any"),), **values)
    return values


def _read_shares(text: str) -> dict[str, Any]:
    return {name: BY_NAME[name].check(share) for name, share in zip(SHARES, _pair(text, " and "), strict=True)}


def _read_scale(text: str) -> dict[str, Any]:
    """Check the scales. They ask for nothing: they are used where an adapter is missing."""
    _scales(text)
    return {}


def _scales(text: str) -> list[float]:
    try:
        scales = read_scales(text)
    except ValueError as error:
        raise OptionError("it must be the concepts' scales with commas between them") from error
    if not all(-1e6 < scale <= 0 for scale in scales):  # NaN fails too
        raise OptionError("its scales must be 0 or below")
    return scales


def _read_adapters(text: str) -> dict[str, Any]:
    """Check the adapters. They ask for nothing: Automatic chooses again."""
    for one in text.split("; "):
        if one != FIXED and NAME_AND_HASH.fullmatch(one) is None:
            raise OptionError(f"{quoted(one)} must be {FIXED!r} or an adapter with its hash")
    return {}


_READERS: dict[str, Callable[[str], dict[str, Any]]] = {
    **{BY_NAME[name].infotext: _read_number(name) for name in ("strength", "scale")},
    **{BY_NAME[name].infotext: _read_choice(name) for name in ("concept_pass", "hires", "rule")},
    **{BY_NAME[name].infotext: _read_flag(name) for name in FLAGS},
    BY_NAME["start"].infotext: _read_steps,
    BY_NAME[SHARES[0]].infotext: _read_shares,
    SCALE: _read_scale,
    ADAPTERS: _read_adapters,
}


def _read_concepts(written: Mapping[str, str], here: Here, problems: list[str]) -> str:
    """Return the concepts' text, with those that the image's own WebUI always erased and this one does not."""
    text = written.get(_CONCEPTS)
    if text == _LOST:
        problems.append(f"{_CONCEPTS} is {_LOST}: a site has lost the concepts, type them again")
        return ""
    if text is None and ENFORCED not in written and _CONCEPTS not in here.skipped:
        problems.append("it does not name the concepts")
    try:
        own = () if text is None else parse_concepts(text)
        always = parse_concepts(written[ENFORCED]) if ENFORCED in written else ()
    except GieError as error:
        problems.append(str(error))
        return text or ""
    return _with_enforced(text or "", {concept.key for concept in own}, always, here, problems)


def _with_enforced(text: str, own: set[str], always: Sequence[Concept], here: Here, problems: list[str]) -> str:
    lacking = [concept for concept in always if concept.key not in here.enforced | own]
    if not lacking:
        return text
    names = format_concepts(lacking)
    problems.append(f"this image's WebUI always erases {quoted(names)}, and this one does not: add it to the concepts")
    return ", ".join(filter(None, [text, names]))


def _adapter(text: str, here: Here) -> str:
    """Return the adapter's name here. Raises AdapterError where it is missing or another."""
    match = NAME_AND_HASH.fullmatch(text)
    if match is not None:
        return here.find(match["name"], match["hash"])
    return text if text in (AUTOMATIC, FIXED) else here.find(text, None)


def _with_adapter(
    values: dict[str, Any], written: Mapping[str, str], prompts: Sequence[str], here: Here, problems: list[str]
) -> dict[str, Any]:
    """Return ``values`` with the recorded adapter; with the recorded scales where that is missing or another."""
    try:
        adapter = _adapter(written.get(BY_NAME["adapter"].infotext, AUTOMATIC), here)
        for text in written.get(ADAPTERS, "").split("; "):
            if NAME_AND_HASH.fullmatch(text):
                _adapter(text, here)
        return {**values, "adapter": adapter}
    except AdapterError as error:
        try:
            filled = _with_recorded_scales(values, written[SCALE], prompts, here)
        except (ValueError, KeyError, GieError):
            problems.append(f"{error}; the scales of this image are not there")
            return values
        problems.append(f"{error}; the scales that it gave this image are filled in")
        return filled


def _with_recorded_scales(values: dict[str, Any], text: str, prompts: Sequence[str], here: Here) -> dict[str, Any]:
    """Return ``values`` with the fixed scale -1 and the recorded scales as the concepts' weights.

    The recorded scales include what they grew by with the prompt's emphasis. That is divided out, because they will
    grow by it again.
    """
    concepts = parse_concepts(values["concepts"])
    factor = max((here.factor(prompt, concepts) for prompt in prompts), default=1.0)
    pairs = zip(concepts, _scales(text), strict=True)
    weighted = [Concept(concept.text, round(-scale / factor, 4)) for concept, scale in pairs]
    return {**values, "concepts": format_concepts(weighted), "adapter": FIXED, "scale": -1.0, "strength": 1.0}


def _values(written: Mapping[str, str], prompts: Sequence[str], here: Here, problems: list[str]) -> dict[str, Any]:
    """Return the request by option names; what is left out or cannot be read has its default."""
    values = {name: option.default for name, option in BY_NAME.items()} | {"enabled": True}
    for key, text in written.items():
        if key not in ALL_KEYS:
            problems.append(f"{quoted(key)} is not known here")
        elif text == _LOST and key != _CONCEPTS:
            problems.append(f"{key} is {_LOST}: a site has lost it")
        elif key in _READERS:
            try:
                values |= _READERS[key](text)
            except (ValueError, GieError) as error:
                problems.append(f"{key} is {quoted(text)}: {error}")
    values["concepts"] = _read_concepts(written, here, problems)
    return _with_adapter(values, written, prompts, here, problems)


def _left_alone(here: Here) -> set[str]:
    """Return the options that stay as they are, because their keys are disregarded."""
    names = {name for name, option in BY_NAME.items() if option.infotext in here.skipped}
    return names | ({"enabled"} if here.skipped & {ENABLED, _CONCEPTS} else set())


def read_params(params: Mapping[str, Any], here: Here) -> tuple[dict[str, Any] | None, str]:
    """Return an infotext's values by option name, and what the user must be told ("" if there is nothing to say).

    ``params``: the infotext as the WebUI has parsed it, and the whole text under RAW. The values are None if nothing
    was erased there. Options whose keys are disregarded are left out. Where something cannot be read the rest is
    returned with ``enabled``, so that no infotext of an erased image switches erasing off. Where the recorded adapter
    is missing or another, the recorded scales take its place.
    """
    problems: list[str] = []
    written = _written(params, here.skipped, problems)
    if not written:
        return None, ""
    prompts = [str(params[key]) for key in ("Prompt", "Hires prompt") if params.get(key)]
    values = _values(written, prompts, here, problems)
    if written.keys() <= {ENFORCED, ENFORCED_SCALE} and not problems:
        return None, ""
    left_alone = _left_alone(here)
    values = {name: value for name, value in values.items() if name not in left_alone}
    return values, _notice(problems)


def _notice(problems: list[str]) -> str:
    if not problems:
        return ""
    said = list(dict.fromkeys(problems))
    more = f"; and {len(said) - _MOST_SAID} more" if len(said) > _MOST_SAID else ""
    return f"the growth inhibitors of this infotext cannot be read in full: {'; '.join(said[:_MOST_SAID])}{more}"
