"""A picture beside the results, and what happens to it where results are saved: the same as to these.

Other extensions may change or refuse what is saved. So a picture goes through that, too, whether it is saved or not.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from modules import images, script_callbacks, shared
from PIL import Image

from lib_gie.hosts.webui.request.parsing import TITLE

from .afterwards import reported_errors

SAVE_BEFORE, SAVE_ATTENTION = "gie_save_before", "gie_save_attention"
"""The settings that say whether these pictures are saved, too."""

Place = tuple[int, int]
"""The number of a batch, and that of an image in it."""


class Picture:
    """One picture beside the results.

    ``small``: as the sheet shows it; None: the sheet does not. ``setting``: says whether it is saved, too; None: never.
    ``place``: that of the image that it belongs to; None: it belongs to all. ``sources``: the pictures that it was made
    of. ``text``: its infotext, if that is another than the image's.
    """

    def __init__(
        self,
        heading: str,
        picture: Image.Image,
        small: Image.Image | None,
        suffix: str,
        setting: str | None,
        place: Place | None,
        sources: Sequence[Image.Image] = (),
        text: str | None = None,
    ):
        self.heading, self.picture, self.small, self.suffix, self.setting = heading, picture, small, suffix, setting
        self.place, self.sources, self.text = place, tuple(sources), text

    def add_to(self, processed: Any, of_image: str) -> None:
        """Add it to a job's images. ``of_image``: its infotext, if it has none yet."""
        self.text = of_image if self.text is None else self.text
        if shared.opts.enable_pnginfo:
            self.picture.info["parameters"] = self.text
        processed.images.append(self.picture)
        processed.infotexts.append(self.text)


def script_title(source: str | None) -> str:
    """Return the name of a script's file, as users know the extension by it."""
    return os.path.basename(source or "") or "of an unknown name"


def saves_results(p: Any) -> bool:
    """Tell whether the host saves finished images, in which case the page shows the saved ones."""
    return shared.opts.samples_save and not p.do_not_save_samples


def _callbacks(category: str) -> list[Any]:
    return list(script_callbacks.callback_map.get(f"callbacks_{category}", []))


def _handles_saved_files() -> str | None:
    """Return the name of an extension that is told of saved files and may change them; None: there is none."""
    return next((script_title(callback.script) for callback in _callbacks("image_saved")), None)


def as_the_results(p: Any, shown: Picture, picture: Image.Image) -> tuple[Image.Image | None, str]:
    """Return the picture after all that happens to results that are saved, or None and why it must not be shown."""
    if shown.place is not None and shown.setting is not None and getattr(shared.opts, shown.setting, False):
        return _saved(p, shown, shown.place, picture), ""
    name = _handles_saved_files()
    if name is None:
        return _as_if_saved(p, shown, picture), ""
    return None, (
        f"pictures beside the images are shown only where they are saved as well (Settings, {TITLE}): another "
        f"extension ({name}) goes over saved images"
    )


def _saved(p: Any, shown: Picture, place: Place, picture: Image.Image) -> Image.Image:
    """Save the picture. Return it, or what another extension has had saved in its place."""
    number = place[0] * p.batch_size + place[1]
    path, _ = images.save_image(
        picture, p.outpath_samples, "", p.all_seeds[number], p.all_prompts[number], shared.opts.samples_format,
        info=shown.text, p=p, suffix=shown.suffix,
    )  # fmt: skip
    if getattr(picture, "already_saved_as", None) is not None:
        return picture
    with Image.open(path) as file:
        return file.copy()


def _as_if_saved(p: Any, shown: Picture, picture: Image.Image) -> Image.Image | None:
    """Return what other extensions make of a picture before it is saved, although it is not; None where that failed."""
    if not _callbacks("before_image_saved"):
        return picture
    name = os.path.join(p.outpath_samples, f"0{shown.suffix}.{shared.opts.samples_format}")
    params = script_callbacks.ImageSaveParams(picture, p, name, {"parameters": shown.text})
    with reported_errors() as reported:
        script_callbacks.before_image_saved_callback(params)
    return None if reported else params.image
