"""The lines beside the gallery after a generation: what erasure was applied to, how present it was, and by what.

Nobody has looked at the images, so the lines do not say that something is gone. They say in words what the read-out
has, and where the images with and without erasure are in the gallery.
"""

from __future__ import annotations

import html
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from lib_gie.core.concepts import parse_concepts
from lib_gie.errors import GieError
from lib_gie.hosts.webui.request.infotext import ENFORCED, NAME_AND_HASH
from lib_gie.options import BY_NAME
from lib_gie.stronger import NARROWING, greater_strength, stronger_scale

from .own_infotexts import NO_SCALE, Settings, first_places, image_in, is_erased, kept_texts, keys_in
from .readout import CALIBRATION, NOT_OURS, PICTURES, is_number, setter_text, told

MOST_LINES = 12
_FACTORS = ("strength", "weight")
"""What a scale was multiplied by, as the read-out has it."""

_OFF = (
    "<b>Nothing was erased</b>: concepts are filled in, but <i>Erase concepts</i> was not ticked when this was "
    "generated."
)
_YOURS_OFF = (
    "<b>Your own concepts were not erased</b> ({}): <i>Erase concepts</i> was not ticked when this was generated."
)
_LOOK = "Look whether it is gone. If an image still shows it, {}"
_RAISE = "take its seed (♻️), raise <i>Strength</i> to {:g} and generate again; if too much else is gone, lower it."
_WIDEN = "take its seed (♻️), {} and generate again, so that more is erased."
_AT_GREATEST = (
    "no greater <i>Strength</i> is possible: take its seed (♻️), choose <i>Fixed scale</i> under <i>Adapter</i>, and "
    "lower <i>Scale</i>."
)
_AT_STRONGEST = "neither a greater <i>Strength</i> nor a lower <i>Scale</i> is possible: take another seed."
_ALL_STEPS = "set <i>Start</i> to 0 and <i>End</i> to 1"
_WIDER = {
    "start": _ALL_STEPS,
    "end": _ALL_STEPS,
    "hires": "set <i>Hires. fix pass</i> to both",
    "keep_composition": "untick <i>Keep composition</i>",
}
"""What to do with each of the options ``NARROWING``."""

_AFTER_NONE = "If an image shows what was not erased, choose <i>Fixed scale</i> under <i>Adapter</i>."


def _share(value: float) -> str:
    return f"{100 * value:.0f} %"


def _presence(entry: Mapping[str, Any]) -> str:
    for name, words in (("in_prompt", "named or implied"), ("present", "attention to it up to")):
        if is_number(entry.get(name)):
            return f"{words} {_share(entry[name])}"
    return ""


def _setter(entry: Mapping[str, Any]) -> str:
    kind, name = str(entry.get("kind", "")), str(entry["by"])
    if kind == "fixed scale" or name == CALIBRATION:
        return kind
    named = NAME_AND_HASH.fullmatch(name)
    return setter_text(kind, named["name"] if named else name, entry.get("reason"))


def _concept(entry: Mapping[str, Any]) -> str:
    """Say what was done to one concept."""
    concept = str(entry["concept"])
    if _is_kept(entry):
        said = f"{concept} not erased"
    else:
        said = f"erasure applied to {concept}{', as always on this WebUI' if entry['always'] else ''}"
    if entry["always"] and entry["scale"] is None:
        return said
    scale = f"scale {entry['scale']:.2f}" if is_number(entry["scale"]) else ""
    return f"{said} ({', '.join(part for part in (_presence(entry), scale, _setter(entry)) if part)})"


def _is_kept(entry: Mapping[str, Any]) -> bool:
    """Tell whether it is known that a concept was not erased."""
    return is_number(entry["scale"]) and abs(entry["scale"]) < NO_SCALE


def _name(number: int, seeds: Sequence[Any]) -> str:
    return f"Seed {seeds[number]}" if 0 <= number < len(seeds) else f"Image {number + 1}"


def _line(name: str, entries: Sequence[Mapping[str, Any]]) -> str:
    said = html.escape("; ".join(map(_concept, entries)))
    start = "<b>nothing was erased</b>: " if all(map(_is_kept, entries)) else ""
    return f"<li><b>{html.escape(name)}</b>: {start}{said}</li>"


def _unerased_line(number: int, seed: str, always: str) -> str:
    said = f"erasure applied only to {always}, as always on this WebUI" if always else "nothing was erased"
    return f"<li><b>Picture {number + 1}, seed {html.escape(seed)}, for comparison</b>: {html.escape(said)}</li>"


def _pairs(kept: Mapping[str, Any], texts: Sequence[Settings]) -> list[tuple[int, int]]:
    """Return where in the gallery the same image is with and without erasure.

    A pair whose infotexts say something else is left out: the gallery has other pictures there by now.
    """
    try:
        return list(_confirmed(kept["extra_generation_params"][PICTURES]["pairs"], texts))
    except NOT_OURS:
        return []


def _confirmed(found: Any, texts: Sequence[Settings]) -> Iterator[tuple[int, int]]:
    for first, second in found:
        if not all(type(number) is int and 0 <= number < len(texts) for number in (first, second)):
            continue
        erased, unerased = texts[first], texts[second]
        if is_erased(erased) and not is_erased(unerased) and image_in(erased) == image_in(unerased):
            yield first, second


def _results(kept: Mapping[str, Any], texts: Sequence[Settings]) -> list[int | None]:
    """Return for each picture where the result is that shows the same image: pictures of attention follow results."""
    places = first_places(texts, kept.get("index_of_first_image", 0))
    return [places.get(image_in(settings)) for settings in texts]


def _job(kept: Mapping[str, Any]) -> str:
    """Return the name by which the job is kept; "" where it is not, or something else is sent."""
    try:
        name = kept["extra_generation_params"][PICTURES]["again"]
    except NOT_OURS:
        return ""
    return name if isinstance(name, str) else ""


def can_ask(info: Any) -> bool:
    """Tell whether the image without erasure can be asked for. ``info``: as ``lines_of`` takes it."""
    try:
        return bool(_job(json.loads(info or "{}")))
    except NOT_OURS:
        return False


def _always(settings: Settings) -> str:
    """Name the concepts that were erased from a picture because an admin enforces them; "" where none were."""
    text = settings.get(ENFORCED, "")
    try:
        return ", ".join(concept.text for concept in parse_concepts(text)) if text else ""
    except GieError:
        return text


def _unerased_lines(pairs: Sequence[tuple[int, int]], texts: Sequence[Settings]) -> list[str]:
    """Return a line for each image without erasure."""
    return [_unerased_line(second, image_in(texts[second])[0] or "?", _always(texts[second])) for _, second in pairs]


def _forgotten(concepts: Any, texts: Sequence[Settings]) -> str:
    """Say what was not erased where somebody has filled in what is to be, and forgot to switch it on."""
    if not isinstance(concepts, str) or not concepts.strip() or any(map(is_erased, texts)):
        return ""
    if not any(ENFORCED in text for text in texts):
        return _OFF
    enforced = [keys_in(text, ENFORCED) for text in texts]
    always = {key for keys in enforced if keys is not None for key in keys}
    try:
        others = [concept.text for concept in parse_concepts(concepts) if concept.key not in always]
    except GieError:
        return ""
    return _YOURS_OFF.format(html.escape(", ".join(others))) if others and None not in enforced else ""


def _read(info: Any) -> tuple[list[tuple[str, Any]], list[Any]]:
    """Return the read-out's entries, each with its image's number, and the seeds; scripts may keep it back."""
    try:
        return told(info)
    except NOT_OURS:
        return [], []


def lines_of(info: Any, concepts: Any) -> str:
    """Return the lines as HTML, "" where there is nothing to say.

    ``info``: the JSON that the WebUI keeps of its last generation. ``concepts``: the text of the page's field.
    """
    entries, seeds = _read(info)
    by_image: dict[str, list[Mapping[str, Any]]] = {}
    for image, entry in entries:
        by_image.setdefault(image, []).append(entry)
    try:
        kept = json.loads(info or "{}")
        texts = kept_texts(kept)
        pairs, job = _pairs(kept, texts), _job(kept)
        lines = [_line(_name(int(image), seeds), found) for image, found in by_image.items()]
        lines += _unerased_lines(pairs, texts)
        forgotten, results = _forgotten(concepts, texts), _results(kept, texts)
    except NOT_OURS:
        return ""
    said = f"<p class='gie-erased'>{forgotten}</p>" if forgotten else ""
    if not lines:
        return said
    more = f"<li>and {len(lines) - MOST_LINES} more</li>" if len(lines) > MOST_LINES else ""
    data = {"job": job, "pairs": json.dumps(pairs), "results": json.dumps(results)}  # for the page's script
    attributes = " ".join(f"data-{name}='{html.escape(value, quote=True)}'" for name, value in data.items())
    listed = f"<ul class='gie-erased' {attributes}>{''.join(lines[:MOST_LINES])}{more}</ul>"
    return f"{said}{listed}{_next_step([entry for _, entry in entries if not entry['always']], texts)}"


def _next_step(own: Sequence[Mapping[str, Any]], texts: Sequence[Settings]) -> str:
    """Say what to do where an image is not as it should be. ``own``: of the concepts that the user has chosen."""
    applied = [entry for entry in own if not _is_kept(entry)]
    refused = any(_is_kept(entry) and entry.get("kind") != "fixed scale" and _is_wanted(entry) for entry in own)
    steps = [_LOOK.format(_for_more(applied, texts))] if applied else []
    steps += [_AFTER_NONE] if refused else []
    return f"<p class='gie-next'>{' '.join(steps)}</p>" if steps else ""


def _for_more(applied: Sequence[Mapping[str, Any]], texts: Sequence[Settings]) -> str:
    """Say how to erase more. ``applied``: what was erased by. ``texts``: the settings in the images' infotexts."""
    strengths, weights = ([entry[name] for entry in applied if is_number(entry.get(name))] for name in _FACTORS)
    strength = max(strengths, default=BY_NAME["strength"].default)
    narrowing = [name for name in NARROWING if any(BY_NAME[name].infotext in settings for settings in texts)]
    wider = list(dict.fromkeys(_WIDER[name] for name in narrowing))  # two of them are one key in infotexts
    if min(weights, default=1) < 1:
        wider.append("give no concept a weight below 1")
    if wider:
        wider += ["set <i>Strength</i> to 1"] if strength < 1 else []
        return _WIDEN.format(", ".join(wider))
    greater = greater_strength(strength)
    if greater is not None:
        return _RAISE.format(greater)
    return _AT_STRONGEST if all(map(_is_strongest, applied)) else _AT_GREATEST


def _is_strongest(entry: Mapping[str, Any]) -> bool:
    """Tell whether a concept was erased by a fixed scale that cannot be stronger."""
    if entry.get("kind") != "fixed scale" or not all(is_number(entry.get(name)) for name in ("scale", *_FACTORS)):
        return False
    factor = entry["strength"] * entry["weight"]
    return factor != 0 and stronger_scale(entry["scale"] / factor) is None


def _is_wanted(entry: Mapping[str, Any]) -> bool:
    """Tell whether the user has asked for some erasure: a weight or a strength of 0 asks for none."""
    return 0 not in (entry.get("strength"), entry.get("weight"))
