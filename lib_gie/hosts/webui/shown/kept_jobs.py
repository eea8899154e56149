"""The page's last jobs as they began, so that one of their images can be made once more without erasure."""

from __future__ import annotations

import copy
import secrets
from collections import OrderedDict
from typing import Any

from lib_gie.errors import ErasureError
from lib_gie.hosts.webui.request.asked import switch_off

MOST_KEPT = 4
"""Few, because a job of img2img holds its pictures."""

_kept: OrderedDict[str, KeptJob] = OrderedDict()
_BY_IMAGE = {
    "prompt": "all_prompts", "negative_prompt": "all_negative_prompts", "seed": "all_seeds", "subseed": "all_subseeds",
    "hr_prompt": "all_hr_prompts", "hr_negative_prompt": "all_hr_negative_prompts",
}  # fmt: skip
"""By what a job of one image is given the list that a job has it in."""

_NAME = "gie_kept_as"  # attribute of p


class KeptJob:
    """One job of ``p``. Make it before the job changes ``p``, and call ``keep`` when the job is done."""

    def __init__(self, p: Any):
        self._start = _copy_of(p)
        self._images: dict[str, list[Any]] = {}

    def keep(self, p: Any) -> str | None:
        """Keep the job. Return the name that ``kept_job`` finds it by, which nobody else can guess.

        None for a ``p`` of several jobs, as img2img's batch has them: it would not be known which one is asked for.
        None also for the WebUI's upscaling of a picture in the gallery: the page goes on with what it was told of the
        generation before.
        """
        if getattr(p, "txt2img_upscale", False):
            return None
        if hasattr(p, _NAME):
            _kept.pop(getattr(p, _NAME), None)
            return None
        self._images = {one: list(getattr(p, every, None) or ()) for one, every in _BY_IMAGE.items()}
        name = secrets.token_urlsafe(16)
        setattr(p, _NAME, name)
        _kept[name] = self
        while len(_kept) > MOST_KEPT:
            _kept.popitem(last=False)
        return name

    def number_of(self, seed: Any, subseed: Any) -> int:
        """Return the number of the image of a seed, and of a variation seed where one is given.

        Raises ErasureError where there is none.
        """
        for number, seeds in enumerate(zip(self._images["seed"], self._images["subseed"], strict=False)):
            if str(seeds[0]) == str(seed) and subseed in (None, str(seeds[1])):
                return number
        raise ErasureError("this picture is none of the last job's; choose another, or press Generate and ask again")

    def without_erasure(self, number: int) -> Any:
        """Return what makes the image of this number alone, with nothing that the user asks for erased.

        What an admin enforces is erased from whatever is processed, and so from this.
        """
        p = _copy_of(self._start)
        switch_off(p)
        for name, values in self._images.items():
            if number < len(values):
                setattr(p, name, values[number])
        p.styles = []  # they are in the prompts by now
        pictures = getattr(p, "init_images", None)
        if pictures:
            p.init_images = [pictures[number % len(pictures)]]
        p.batch_size = p.n_iter = 1
        p.do_not_save_grid = True
        return p


def _copy_of(p: Any) -> Any:
    """Return a copy that shares no list or dict with ``p``, and none of the prompts that it has encoded."""
    made = copy.copy(p)
    for name, value in list(vars(p).items()):
        if name.startswith("cached_"):
            setattr(made, name, [None, None])
        elif isinstance(value, (dict, list)):
            setattr(made, name, copy.copy(value))
    return made


def kept_job(name: Any) -> KeptJob:
    """Return the job of this name. Raises ErasureError where it is not kept, or not any longer."""
    found = _kept.get(name) if isinstance(name, str) else None
    if found is None:
        raise ErasureError(
            f"this WebUI no longer knows how these images were made: it remembers the last {MOST_KEPT} generations "
            f"with erasure, of all its users together; press Generate and ask again"
        )
    return found
