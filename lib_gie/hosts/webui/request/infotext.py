"""What a generation writes into its infotext; ``pasting`` reads it back into the same request."""

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
"""An adapter in an infotext, as ``Rule`` writes it."""


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

    The WebUI reads some plain values as something else (512x512 as a size, "text" as quoted), and writes none that is
    its own key. A weight written out brings a colon in, which has it quote the whole value.
    """
    text = format_concepts(concepts)
    plain = all(_PLAIN.fullmatch(concept.text) and concept.text not in ALL_KEYS for concept in concepts)
    if plain or ":" in text:
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
    for name in ("strength", "concept_pass", "hires", "rule"):
        value = getattr(request, name)
        if value != BY_NAME[name].default:
            params[BY_NAME[name].infotext] = _number(value) if isinstance(value, float) else value
    if (request.start, request.end) != (0.0, 1.0):
        params[BY_NAME["start"].infotext] = f"{_number(request.start)} to {_number(request.end)}"
    params |= {BY_NAME[name].infotext: "True" for name in FLAGS if getattr(request, name)}
    shares = [getattr(request, name) for name in SHARES]
    if request.keep_composition and shares != [BY_NAME[name].default for name in SHARES]:
        params[BY_NAME[SHARES[0]].infotext] = " and ".join(map(_number, shares))
    return params


def settings_line(settings: Mapping[str, object]) -> str:
    """An infotext's last line as the WebUI writes it: values with a comma, colon or newline become JSON strings."""

    def written(value: str) -> str:
        return json.dumps(value, ensure_ascii=False) if re.search("[,:\n]", value) else value

    return ", ".join(f"{key}: {written(str(value))}" for key, value in settings.items() if value is not None)
