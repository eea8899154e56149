"""The table under the accordion after a generation: how strongly each concept was present, and its scale."""

from __future__ import annotations

import html
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lib_gie.core.recorder import AttentionRecorder
from lib_gie.core.scales.calibrated import CALIBRATED
from lib_gie.core.scales.fitted import kind_name
from lib_gie.core.scales.scale_rules import Guarded, ScaleRule
from lib_gie.hosts.webui.request.enforcement import shows_enforced_scale

from .own_infotexts import OwnInfotexts

if TYPE_CHECKING:  # not loaded before images are made
    from lib_gie.hosts.webui.request.infotext import ScaleSource
    from lib_gie.hosts.webui.request.plan import Plan
    from lib_gie.hosts.webui.sampling.erased_generation import Generation

KEY, PICTURES = "GIE read-out", "GIE pictures"
_HEADINGS = ("seed", "concept", "named or implied", "attention to it", "scale", "by")
_MOST_ROWS, _MOST_CHARACTERS, _MOST_READ = 24, 4000, 4096

REPLACED = "fixed scale, stronger than that of the"
"""Stands before the kind of what asked for less than the fixed scale, where there was a reason to take more."""

CALIBRATION = "a calibration"
"""Stands for the name and digest of an enforced concept's, by which it could be asked what it says of prompts."""

_holders: dict[str, Any] = {}
"""By tab the component that shows the read-out."""

_refreshed: dict[str, tuple[Callable[..., Any], Sequence[Any], str]] = {}
"""By tab what else a generation changes: a function, the components that it fills, and the script that follows.

A page that is built anew takes the place of the one before: a handler for a component that is gone would end the page's
other handlers with it.
"""


class ReadOut(dict[str, Any]):
    """A dict for a job's ``extra_generation_params`` that goes into the page's and the API's JSON, but no infotext.

    The WebUI calls a value that can be called to get the infotext's, and leaves None out.
    """

    def __call__(self, **unused: Any) -> None:
        """Return None: no infotext has it."""


def _scale(rows: list[list[list[float]]], concept: int) -> float | None:
    values = [value for row in rows for value in row[concept]]
    return round(sum(values) / len(values), 4) if values else None


def _of_image(generation: Generation, number: int, plan: Plan, batch: int, image: int) -> list[dict[str, Any]]:
    recorder = generation.recorders.get((number, batch), AttentionRecorder())
    rows = [row for row in recorder.rows() if isinstance(row, tuple) and row[0] == image]
    found = generation.found(number, batch, image)
    hidden = plan.enforced and not shows_enforced_scale()  # both tell for which prompts erasing is weak
    if found is None:
        return []
    reasons = ("",) * len(found.reasons) if hidden else found.reasons
    return [
        {
            "concept": concept.text,
            "scale": None if hidden else _scale(found.scales, k),
            "by": CALIBRATION if hidden and _is_calibrated(plan.rules[k]) else str(plan.sources[k]),
            "kind": _kind(plan, k, bool(reasons[k])),
            "reason": reasons[k],
            "present": None if hidden else round(max((recorder.strongest(k, row) for row in rows), default=0.0), 4),
            "in_prompt": None if hidden else _rounded(found.presence[k]),
            "always": plan.enforced,
            "strength": None if plan.enforced else plan.request.strength,
            "weight": None if plan.enforced else concept.weight,
        }
        for k, concept in enumerate(plan.request.concepts)
    ]


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def _kind(plan: Plan, concept: int, is_replaced: bool) -> str:
    """Name the kind of what has set a concept's scale. ``is_replaced``: the fixed scale was taken instead."""
    kind = kind_of(plan.rules[concept], plan.sources[concept])
    return f"{REPLACED} {kind}" if is_replaced else kind


def kind_of(rule: ScaleRule, source: ScaleSource) -> str:
    """Name the kind of what sets a concept's scale."""
    if source.adapter is None:
        return "fixed scale"
    return kind_name(rule.adapter) if isinstance(rule, Guarded) else "adapter"


def _is_calibrated(rule: ScaleRule) -> bool:
    return isinstance(rule, Guarded) and rule.adapter.kind == CALIBRATED


def read_out(generation: Generation) -> ReadOut:
    """Return, by an image's number in the job, its concepts: each with scale, what gave it, and presence (0 to 1)."""
    p, found = generation.p, ReadOut()
    for batch in sorted({batch for _, batch in generation.recorders} - generation.left_out.batches):
        for image in range(p.batch_size):
            numbered = enumerate(generation.plans)
            entries = [entry for k, plan in numbered for entry in _of_image(generation, k, plan, batch, image)]
            if entries:
                found[str(batch * p.batch_size + image)] = entries
    return found


# -- on the page ------------------------------------------------


def add_holder(tab: str, component: Any) -> None:
    """Remember the component that shows a tab's read-out."""
    _holders[tab] = component


def refresh_afterwards(tab: str, shown: Callable[..., Any], filled: Sequence[Any], script: str) -> None:
    """Fill the components ``filled`` by ``shown``, anew after each of a tab's generations, and run the script then.

    ``shown`` is given the JSON that the WebUI keeps of the generation.
    """
    _refreshed[tab] = shown, filled, script


def watch_results(component: Any, elem_id: str | None = None, **unused: Any) -> None:
    """Show the read-out whenever a tab's component for results changes: the WebUI's on_after_component callback."""
    tab = str(elem_id or "").removeprefix("generation_info_")
    if elem_id and elem_id.startswith("generation_info_") and tab in _holders:
        component.change(as_html, [component], [_holders[tab]], show_progress=False, queue=False)
        if tab in _refreshed:
            shown, filled, script = _refreshed.pop(tab)
            answer = component.change(shown, [component], list(filled), show_progress=False, queue=False)
            answer.then(None, None, None, _js=script)


def is_number(value: Any) -> bool:
    """Tell whether this is a number of a read-out's."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e9


def setter_text(kind: str, name: object, reason: object) -> str:
    """Name what set a scale. ``reason``: why the fixed scale was taken, if it was."""
    return f"{kind} {name}{f', because {reason}' if reason else ''}".strip()


def _cells(image: str, entry: dict[str, Any], seeds: list[Any]) -> str:
    number = int(image)
    seed = seeds[number] if 0 <= number < len(seeds) else ""
    always = " (always)" if entry["always"] else ""
    present, scale, in_prompt = entry["present"], entry["scale"], entry.get("in_prompt")
    if not all(value is None or is_number(value) for value in (present, scale, in_prompt)):
        raise ValueError("no read-out of this page's")
    shown = "" if scale is None else f"{scale:.2f}"
    shares = ("" if share is None else f"{100 * share:.0f} %" for share in (in_prompt, present))
    kind = str(entry.get("kind", ""))
    setter = setter_text(kind, entry["by"], entry.get("reason")) if kind.startswith(REPLACED) else entry["by"]
    cells = (seed, str(entry["concept"]) + always, *shares, shown, setter)
    return "<tr>" + "".join(f"<td>{html.escape(str(cell)[:_MOST_CHARACTERS])}</td>" for cell in cells) + "</tr>"


def told(info: Any) -> tuple[list[tuple[str, Any]], list[Any]]:
    """Return the read-out's entries, each with its image's number, and the seeds. Raises one of ``NOT_OURS``.

    An entry that its image's infotext does not confirm is left out: another picture has taken the image's place.
    """
    kept = json.loads(info or "{}")
    found, texts = kept["extra_generation_params"][KEY], OwnInfotexts(kept)
    entries = [(image, entry) for image, entries in found.items() for entry in entries]
    return [(image, entry) for image, entry in entries if texts.confirm(int(image), entry)], kept["all_seeds"]


NOT_OURS = ValueError, LookupError, TypeError, AttributeError, RecursionError
"""What reading raises where the page sends something else: whoever knows the address can send anything."""


@dataclass(frozen=True)
class Presence:
    """How present a concept was in a generation's images: shares from 0 to 1, and how many images say so.

    ``in_prompt``: what an adapter or a calibration read off the prompts. ``attention``: that of the images to the
    concept.
    """

    images: int
    in_prompt: tuple[float, ...]
    attention: tuple[float, ...]


def presence_of(info: Any) -> dict[str, Presence]:
    """Return by each concept's key how present it was, as far as that is shown. ``info``: as ``as_html`` takes it.

    Nothing is returned for anything else.
    """
    by_concept: dict[str, list[tuple[str, Any]]] = {}
    try:
        for image, entry in told(info)[0][:_MOST_READ]:
            by_concept.setdefault(str(entry["concept"]).casefold(), []).append((image, entry))
        return {key: _presence(entries) for key, entries in by_concept.items()}
    except NOT_OURS:
        return {}


def _presence(entries: Sequence[tuple[str, Any]]) -> Presence:
    images = len({image for image, _ in entries})
    in_prompt, attention = (
        tuple(entry[name] for _, entry in entries if is_number(entry.get(name))) for name in ("in_prompt", "present")
    )
    return Presence(images, in_prompt, attention)


def as_html(info: Any) -> str:
    """Return the read-out as an HTML table. ``info``: the JSON that the WebUI keeps of its last generation.

    The table is "" for anything else.
    """
    try:
        entries, seeds = told(info)
        rows = [_cells(image, entry, seeds) for image, entry in entries[:_MOST_ROWS]]
    except NOT_OURS:
        return ""
    if not rows:
        return ""
    header = "".join(f"<th scope='col'>{text}</th>" for text in _HEADINGS)
    more = f"<div>and {len(entries) - _MOST_ROWS} more</div>" if len(entries) > _MOST_ROWS else ""
    return f"<table><tr>{header}</tr>{''.join(rows)}</table>{more}"
