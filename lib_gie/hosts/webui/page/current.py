"""Keeps what the page says of its fields current."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import gradio as gr


def keep_current(
    part: str, fields: Sequence[Any], say: Callable[..., Any], given: Sequence[Any], filled: Sequence[Any]
) -> None:
    """Fill the components ``filled`` by ``say`` whenever one of the fields has changed.

    ``part``: a name of this part of the page that nothing else has. ``given``: the components whose values ``say`` is
    given.

    gradio drops what happens to a component while a handler of it is at work, and of two handlers the slower has the
    last word, with what the fields were before. So javascript/growth_inhibitors.js presses one hidden button whatever
    field has changed, and again where one has changed meanwhile.
    """
    check = gr.Button("", elem_id=f"gie_{part}_check", elem_classes="gie-hidden")
    check.do_not_save_to_config = True
    answer = check.click(say, list(given), list(filled), show_progress=False, queue=False)
    answer.then(None, None, None, _js=_told(part, "checked"))
    for field in fields:
        field.change(None, None, None, _js=told_of_change(part))


def told_of_change(part: str) -> str:
    """Return the script that tells that something of a part has changed."""
    return _told(part, "changed")


def _told(part: str, what: str) -> str:
    return f"() => {{ window.growthInhibitorsFields?.('{part}').{what}(); }}"
