"""Writes a request into an infotext; ``pasting`` reads it back into the same request."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lib_gie.core.concepts import Concept, format_concepts
from lib_gie.options import AUTOMATIC, BY_NAME, FIXED

from .parsing import Request

SCALE = "GIE scale"
ADAPTERS = "GIE adapters"
ENFORCED, ENFORCED_SCALE = "GIE enforced", "GIE enforced scale"
KEYS = tuple(dict.fromkeys(option.infotext for option in BY_NAME.values() if option.infotext))
ALL_KEYS = (*KEYS, SCALE, ADAPTERS, ENFORCED, ENFORCED_SCALE)

FLAGS = ("keep_composition", "show_before", "show_attention")
SHARES = ("composition_cross", "composition_self")
_PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9]*(?: [A-Za-z0-9]+)*")
NAME_AND_HASH = re.compile(r"(?P<name>.*) \[(?P<hash>[0-9a-f]{10})\]", re.DOTALL)
"""An adapter in an infotext, as ``ScaleSource`` writes it."""


@dataclass(frozen=True)
class ScaleSource:
    """The origin of one concept's scale, as an infotext names it: an adapter (name and digest) or a fixed number."""

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
    """Return the concepts as a text that the WebUI's infotext gives back unchanged, whatever is in it.

    The WebUI reads some plain values as something else (512x512 as a size, "text" as quoted), and leaves out a value
    that equals its key. A weight that is written out has a colon, and the WebUI quotes every value with a colon.
    """
    text = format_concepts(concepts)
    plain = all(_PLAIN.fullmatch(concept.text) and concept.text not in ALL_KEYS for concept in concepts)
    if plain or ":" in text:
        return text
    first, *rest = concepts
    head = f'"{first.text.replace(chr(34), chr(34) * 2)}":1.0'
    return ", ".join([head, format_concepts(rest)]) if rest else head


def scales_text(rows: Sequence[Sequence[Sequence[float]]]) -> str:
    """Return one image's scales as a text: "-3", "-3, -1.5/-1.2" or "-3 | -2".

    ``rows``: by row (a prompt with AND has several), by concept, by token.
    """

    def tokens(values: Sequence[float]) -> str:
        texts = [_rounded(value) for value in values]
        return texts[0] if len(set(texts)) == 1 else "/".join(texts)

    return " | ".join(dict.fromkeys(", ".join(tokens(values) for values in row) for row in rows))


def read_scales(text: str) -> list[float]:
    """Return one scale for each concept, averaged over tokens and rows. Raises ValueError for any other text.

    Where all tokens and rows have the same scale it is what ``scales_text`` was given.
    """
    rows = [[[float(value) for value in item.split("/")] for item in row.split(",")] for row in text.split("|")]
    return [sum(sum(tokens) / len(tokens) for tokens in column) / len(column) for column in zip(*rows, strict=True)]


def write_params(request: Request, sources: Sequence[ScaleSource]) -> dict[str, str]:
    """Return the infotext's entries but for the scales, which are known only later; defaults are left out.

    ``sources``: one for each concept. They say what Automatic chose, so that the same image can be made where other
    adapters are installed.
    """
    params = {BY_NAME["concepts"].infotext: concepts_text(request.concepts)}
    names = {str(source) for source in sources}
    if len(names) == 1:
        params[BY_NAME["adapter"].infotext] = names.pop()
        if sources[0].adapter is None and sources[0].scale != BY_NAME["scale"].default:
            params[BY_NAME["scale"].infotext] = _number(sources[0].scale)
    else:
        params[BY_NAME["adapter"].infotext] = AUTOMATIC
        params[ADAPTERS] = "; ".join(map(str, sources))
    for name in ("strength", "concept_pass", "hires"):
        value = getattr(request, name)
        if value != BY_NAME[name].default:
            params[BY_NAME[name].infotext] = _number(value) if isinstance(value, float) else value
    if any(getattr(request, name) != BY_NAME[name].default for name in ("start", "end")):
        params[BY_NAME["start"].infotext] = f"{_number(request.start)} to {_number(request.end)}"
    params |= {BY_NAME[name].infotext: "True" for name in FLAGS if getattr(request, name)}
    shares = [getattr(request, name) for name in SHARES]
    if request.keep_composition and shares != [BY_NAME[name].default for name in SHARES]:
        params[BY_NAME[SHARES[0]].infotext] = " and ".join(map(_number, shares))
    return params


def settings_line(settings: Mapping[str, object]) -> str:
    """Return an infotext's last line as the WebUI writes it: values with comma, colon or newline are JSON strings."""

    def written(value: str) -> str:
        return json.dumps(value, ensure_ascii=False) if re.search("[,:\n]", value) else value

    return ", ".join(f"{key}: {written(str(value))}" for key, value in settings.items() if value is not None)
