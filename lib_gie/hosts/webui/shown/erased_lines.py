"""The lines beside the gallery after a generation: what was erased from each image, how present it was, and by what.

They say in words what the read-out has, and where the images with and without erasure are in the gallery.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Sequence
from typing import Any

from lib_gie.hosts.webui.request.infotext import ENFORCED, NAME_AND_HASH
from lib_gie.options import BY_NAME

from .readout import CALIBRATION, NOT_OURS, PICTURES, is_number, told

MOST_LINES = 12
_SEED = re.compile(r"\bSeed: (\d+)")  # in an infotext
_NO_SCALE = 0.005  # what is shown as 0.00
_OFF = (
    "<b>Nothing was erased</b>: concepts are filled in, but <i>Erase concepts</i> was not ticked when this was "
    "generated."
)


def _share(value: float) -> str:
    return f"{100 * value:.0f} %"


def _presence(entry: dict[str, Any]) -> str:
    for name, words in (("in_prompt", "in the prompt"), ("present", "attention to it")):
        if is_number(entry.get(name)):
            return f"{words} {_share(entry[name])}"
    return ""


def _setter(entry: dict[str, Any]) -> str:
    kind, name = str(entry.get("kind", "")), str(entry["by"])
    if kind == "fixed scale" or name == CALIBRATION:
        return kind
    named = NAME_AND_HASH.fullmatch(name)
    return f"{kind} {named['name'] if named else name}".strip()


def _concept(entry: dict[str, Any]) -> str:
    """Say what was done to one concept."""
    concept = str(entry["concept"])
    if entry["always"] and entry["scale"] is None:
        return f"{concept} always erased on this WebUI"
    is_erased = is_number(entry["scale"]) and abs(entry["scale"]) >= _NO_SCALE
    scale = f"scale {entry['scale']:.2f}" if is_number(entry["scale"]) else ""
    facts = ", ".join(part for part in (_presence(entry), scale, _setter(entry)) if part)
    return f"{concept} {'erased' if is_erased else 'not erased'} ({facts})"


def _is_kept(entry: dict[str, Any]) -> bool:
    """Tell whether it is known that a concept was not erased."""
    return is_number(entry["scale"]) and abs(entry["scale"]) < _NO_SCALE


def _name(number: int, seeds: Sequence[Any]) -> str:
    return f"Seed {seeds[number]}" if 0 <= number < len(seeds) else f"Image {number + 1}"


def _line(name: str, entries: Sequence[dict[str, Any]]) -> str:
    said = html.escape("; ".join(map(_concept, entries)))
    start = "<b>nothing was erased</b>: " if all(map(_is_kept, entries)) else ""
    return f"<li><b>{html.escape(name)}</b>: {start}{said}</li>"


def _unerased_line(number: int, seed: str, always: str) -> str:
    said = f"only {always} was erased, as always on this WebUI" if always else "nothing was erased"
    return f"<li><b>Picture {number + 1}, seed {html.escape(seed)}, for comparison</b>: {html.escape(said)}</li>"


def pairs_of(info: Any) -> list[tuple[int, int]]:
    """Return where in the gallery the same image is with and without erasure. ``info``: as ``lines_of`` takes it."""
    try:
        found = json.loads(info or "{}")["extra_generation_params"][PICTURES]["pairs"]
        return [(first, second) for first, second in found if type(first) is int and type(second) is int]
    except NOT_OURS:
        return []


def can_ask(info: Any) -> bool:
    """Tell whether the image without erasure can be asked for. ``info``: as ``lines_of`` takes it."""
    try:
        return isinstance(json.loads(info or "{}")["extra_generation_params"][PICTURES]["again"], str)
    except NOT_OURS:
        return False


def _unerased_lines(info: Any, pairs: Sequence[tuple[int, int]], entries: Sequence[dict[str, Any]]) -> list[str]:
    """Return a line for each image without erasure. ``entries``: the read-out's."""
    always = ", ".join(dict.fromkeys(str(entry["concept"]) for entry in entries if entry["always"]))
    texts = json.loads(info)["infotexts"] if pairs else []
    seeds = [_SEED.findall(str(texts[number])) for _, number in pairs]
    return [
        _unerased_line(number, found[-1] if found else "?", always)
        for (_, number), found in zip(pairs, seeds, strict=True)
    ]


def _was_erased(info: Any) -> bool:
    """Tell whether an infotext of the generation says that something was erased; scripts may keep the read-out back."""
    key = BY_NAME["concepts"].infotext
    return any(f"{one}: " in str(text) for text in json.loads(info)["infotexts"] for one in (key, ENFORCED))


def lines_of(info: Any, concepts: Any) -> str:
    """Return the lines as HTML, "" where there is nothing to say.

    ``info``: the JSON that the WebUI keeps of its last generation. ``concepts``: the text of the page's field.
    """
    try:
        entries, seeds = told(info)
    except NOT_OURS:
        return _lines_without_read_out(info, concepts)
    try:
        by_image: dict[str, list[dict[str, Any]]] = {}
        for image, entry in entries:
            by_image.setdefault(image, []).append(entry)
        lines = [_line(_name(int(image), seeds), found) for image, found in by_image.items()]
        pairs = pairs_of(info)
        lines += _unerased_lines(info, pairs, [entry for _, entry in entries])
    except NOT_OURS:
        return ""
    more = f"<li>and {len(lines) - MOST_LINES} more</li>" if len(lines) > MOST_LINES else ""
    data = html.escape(json.dumps(pairs), quote=True)
    return f"<ul class='gie-erased' data-pairs='{data}'>{''.join(lines[:MOST_LINES])}{more}</ul>"


def _lines_without_read_out(info: Any, concepts: Any) -> str:
    """Say that nothing was erased where somebody has filled in what is to be, and forgot to switch it on."""
    if not info or not isinstance(concepts, str) or not concepts.strip():
        return ""
    try:
        return "" if _was_erased(info) else f"<p class='gie-erased'>{_OFF}</p>"
    except NOT_OURS:
        return ""
