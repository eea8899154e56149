"""What the page says of a training's progress, as HTML."""

from __future__ import annotations

import html
from collections.abc import Sequence

from lib_gie.training.durations import duration

from .progress import PARTS, Progress, Stage


def status_html(progress: Progress, stopping: bool) -> str:
    """Return the state of a training. ``stopping``: whether it ends after the batch that is being made.

    While there is an element of the class ``gie-running``, javascript/growth_inhibitors.js asks for it every second.
    """
    text = html.escape(progress.text)
    if progress.state in ("failed", "warned"):
        return f"<span class='gie-error'>{text}</span>"
    if progress.state == "done":
        return f"<p class='gie-verdict'>{html.escape(progress.verdict)}</p><p>{text}</p>"
    if progress.state not in ("running", "asking"):
        return text
    stage = progress.stage or Stage("starting")
    said = html.escape(stage_text(stage, progress.state == "running", progress.parts))
    asked = f"<p class='gie-verdict'>{text}</p>" if text else ""
    ending = " It stops after this batch." if stopping else ""
    return f"{_bar(stage)}{asked}{said}{ending}"


def _bar(stage: Stage) -> str:
    percent = round(100 * stage.share)
    return (
        f"<div class='gie-running gie-bar' role='progressbar' aria-label='Training' aria-valuemin='0' "
        f"aria-valuemax='100' aria-valuenow='{percent}'><div style='width: {percent}%'></div></div>"
    )


def stage_text(stage: Stage, with_time: bool = True, parts: Sequence[str] = PARTS) -> str:
    """Return what a stage does, how much of it is done, and how long the rest takes.

    ``with_time``: False leaves the time out, as while a person is asked. ``parts``: those that the training has.
    """
    text = f"part {1 + parts.index(stage.part)} of {len(parts)}: {stage.text}" if stage.part in parts else stage.text
    text = text[:1].upper() + text[1:]
    if not stage.total:
        return f"{text}."
    text += f". {stage.unit[:1].upper()}{stage.unit[1:]}: {stage.done:,} of {stage.total:,}"
    each = stage.seconds_each
    if not with_time or each is None or stage.done >= stage.total:
        return f"{text}."
    left = duration(max(1.0, each * (stage.total - stage.done)))
    if stage.most <= stage.total:
        return f"{text}, about {left} left in this part."
    return f"{text}, about {left} left in this round and at most {duration(each * (stage.most - stage.done))} in all."
