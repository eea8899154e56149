"""What a generation writes into its infotext, and how that is read back into the same request."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..concepts import Concept, format_concepts, parse_concepts
from ..errors import AdapterError, GieError
from .options import AUTOMATIC, BY_NAME, FIXED, Request

SCALE = "GIE scale"
ADAPTERS = "GIE adapters"
ENFORCED, ENFORCED_SCALE = "GIE enforced", "GIE enforced scale"
KEYS = tuple(dict.fromkeys(option.infotext for option in BY_NAME.values() if option.infotext))
ALL_KEYS = (*KEYS, SCALE, ADAPTERS, ENFORCED, ENFORCED_SCALE)

_FLAGS = ("keep_composition", "show_before", "show_attention")
_SHARES = ("composition_cross", "composition_self")
_PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9]*(?: [A-Za-z0-9]+)*")
_NAME_AND_HASH = re.compile(r"(?P<name>.*) \[(?P<hash>[0-9a-f]{10})\]", re.DOTALL)

AdapterHash = Callable[[str], str]
"""The hash of an installed adapter by its name; raises AdapterError where there is none."""


@dataclass(frozen=True)
class Rule:
    """How one concept's scale is found: by an adapter (name and hash) or as a fixed number."""

    adapter: str | None
    hash: str | None
    scale: float

    def __str__(self) -> str:
        return f"{self.adapter} [{self.hash}]" if self.adapter else FIXED


def _number(value: float) -> str:
    return repr(float(value)).removesuffix(".0")


def _rounded(value: float) -> str:
    return f"{value:.6g}"


def concepts_text(concepts: Sequence[Concept]) -> str:
    """A text that the WebUI's infotext gives back unchanged, whatever is in it.

    The WebUI reads some plain values as something else (512x512 as a size, "text" as quoted). A weight written out
    brings a colon in, which has it quote the whole value.
    """
    text = format_concepts(concepts)
    if all(_PLAIN.fullmatch(concept.text) for concept in concepts) or ":" in text:
        return text
    first, *rest = concepts
    head = f'"{first.text.replace(chr(34), chr(34) * 2)}":1.0'
    return ", ".join([head, format_concepts(rest)]) if rest else head


def scales_text(rows: Sequence[Sequence[Sequence[float]]]) -> str:
    """Scales of one image: per row (several with AND), per concept, per token. "-3", "-3, -1.5/-1.2", "-3 | -2"."""

    def tokens(values: Sequence[float]) -> str:
        texts = [_rounded(value) for value in values]
        return texts[0] if len(set(texts)) == 1 else "/".join(texts)

    return " | ".join(dict.fromkeys(", ".join(tokens(values) for values in row) for row in rows))


def read_scales(text: str) -> list[float]:
    """One scale per concept, averaged over tokens and rows; the inverse of ``scales_text`` where those are equal."""
    rows = [[[float(value) for value in item.split("/")] for item in row.split(",")] for row in text.split("|")]
    return [sum(sum(tokens) / len(tokens) for tokens in column) / len(column) for column in zip(*rows, strict=True)]


def write_params(request: Request, rules: Sequence[Rule]) -> dict[str, str]:
    """The infotext's entries but for the scales, which are known only later; defaults are left out.

    What "Automatic" chose is written down, so that the same image comes where other adapters are installed.
    """
    params = {BY_NAME["concepts"].infotext: concepts_text(request.concepts)}
    names = {str(rule) for rule in rules}
    if len(names) == 1:
        params[BY_NAME["adapter"].infotext] = names.pop()
        if rules[0].adapter is None and rules[0].scale != BY_NAME["scale"].default:
            params[BY_NAME["scale"].infotext] = _number(rules[0].scale)
    else:
        params[BY_NAME["adapter"].infotext] = AUTOMATIC
        params[ADAPTERS] = "; ".join(map(str, rules))
    for name in ("strength", "concept_pass", "hires"):
        value = getattr(request, name)
        if value != BY_NAME[name].default:
            params[BY_NAME[name].infotext] = _number(value) if isinstance(value, float) else value
    if (request.start, request.end) != (0.0, 1.0):
        params[BY_NAME["start"].infotext] = f"{_number(request.start)} to {_number(request.end)}"
    params |= {BY_NAME[name].infotext: "True" for name in _FLAGS if getattr(request, name)}
    shares = [getattr(request, name) for name in _SHARES]
    if request.keep_composition and shares != [BY_NAME[name].default for name in _SHARES]:
        params[BY_NAME[_SHARES[0]].infotext] = " and ".join(map(_number, shares))
    return params


def _missing_adapter(text: str, hash_of: AdapterHash) -> str | None:
    """What is wrong with a recorded adapter here, None if it is installed and the same."""
    match = _NAME_AND_HASH.fullmatch(text)
    if match is None:
        return None
    try:
        found = hash_of(match["name"])
    except AdapterError:
        return f"the adapter {match['name']!r} of this image is not installed here"
    if found != match["hash"]:
        return f"the adapter {match['name']!r} installed here ({found}) is not this image's ({match['hash']})"
    return None


def adapter_problem(params: Mapping[str, str], hash_of: AdapterHash) -> str | None:
    """Why the recorded adapter cannot be used here, None if it can (or none is recorded)."""
    recorded = [params.get(BY_NAME["adapter"].infotext, ""), *params.get(ADAPTERS, "").split("; ")]
    return next(filter(None, (_missing_adapter(text, hash_of) for text in recorded)), None)


def _recorded(params: Mapping[str, str]) -> dict[str, Any]:
    """The request that is written in the infotext, by option names; defaults for what was left out."""
    values = {name: option.default for name, option in BY_NAME.items()}
    values |= {"enabled": True, "concepts": params[BY_NAME["concepts"].infotext]}
    adapter = params.get(BY_NAME["adapter"].infotext, AUTOMATIC)
    match = _NAME_AND_HASH.fullmatch(adapter)
    values["adapter"] = match["name"] if match else adapter
    for name in ("strength", "scale"):
        if BY_NAME[name].infotext in params:
            values[name] = float(params[BY_NAME[name].infotext])
    for name in ("concept_pass", "hires"):
        values[name] = params.get(BY_NAME[name].infotext, values[name])
    if BY_NAME["start"].infotext in params:
        start, _, end = params[BY_NAME["start"].infotext].partition(" to ")
        values |= {"start": float(start), "end": float(end)}
    for name in _FLAGS:
        values[name] = params.get(BY_NAME[name].infotext) == "True"
    if BY_NAME[_SHARES[0]].infotext in params:
        shares = params[BY_NAME[_SHARES[0]].infotext].split(" and ")
        values |= {name: float(share) for name, share in zip(_SHARES, shares, strict=True)}
    return values


def _with_recorded_scales(values: dict[str, Any], params: Mapping[str, str]) -> dict[str, Any]:
    """Fixed scale -1 and the recorded scales as the concepts' weights."""
    concepts = parse_concepts(values["concepts"])
    scales = read_scales(params[SCALE])
    weighted = [Concept(concept.text, -scale) for concept, scale in zip(concepts, scales, strict=True)]
    return {**values, "concepts": format_concepts(weighted), "adapter": FIXED, "scale": -1.0, "strength": 1.0}


def read_params(params: Mapping[str, str], hash_of: AdapterHash) -> tuple[dict[str, Any] | None, str]:
    """Values by option name as an infotext has them, and a notice for the user ("" if there is nothing to say).

    ``params``: the infotext as the WebUI has parsed it. None if nothing was erased there. Where the recorded adapter
    is missing or another, the recorded scales take its place and the notice says so.
    """
    if BY_NAME["concepts"].infotext not in params:
        return None, ""
    try:
        values = _recorded(params)
        problem = adapter_problem(params, hash_of)
        if problem is None:
            return values, ""
        return _with_recorded_scales(values, params), f"{problem}; the scales that it gave this image are filled in"
    except (ValueError, KeyError, GieError) as error:
        return None, f"the growth inhibitors of this infotext cannot be read ({error})"
