"""The picture that somebody has chosen in the gallery, to ask what it would be without erasure."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from lib_gie.errors import ErasureError

from .own_infotexts import first_places, image_in, settings_of
from .readout import NOT_OURS, PICTURES

_NOTHING = "there is no picture that could be made without erasure; press Generate first"


class ChosenPicture:
    """The chosen picture's infotext ``text``, and the name ``job`` that its job is kept by.

    ``chosen``: its place in the gallery, as the page sends it. ``info``: the JSON that the WebUI keeps of the
    generation. All of it is read here, before an image is made. Raises ErasureError for what cannot be read.
    """

    def __init__(self, chosen: Any, info: Any):
        try:
            self._kept = json.loads(info)
            self._texts, self._first = _texts_of(self._kept)
            number = int(chosen)  # gradio makes a text of it
            self.is_grid = 0 <= number < self._first
            """Whether it stands before the results, as the picture of all of them does. Its text is the first one's."""
            self.text = self._texts[number if 0 <= number < len(self._texts) else self._first]
            pictures = self._kept["extra_generation_params"][PICTURES]
            self._pairs, self.job = [*pictures["pairs"]], pictures["again"]
        except (*NOT_OURS, OverflowError) as error:
            raise ErasureError(_NOTHING) from error
        self._result = self._result_of(self.text)

    def _result_of(self, text: str) -> int:
        """Return where the result is that shows the same image, which a grid and a picture of attention show, too."""
        places = first_places([settings_of(one) for one in self._texts], self._first)
        found = places.get(image_in(settings_of(text)))
        if found is None:
            raise ErasureError("this picture belongs to none of the results; choose another one in the gallery")
        return found

    def with_unerased(self, pictures: int, text: str) -> str:
        """Return what the WebUI is to keep of the generation when the image without erasure is in the gallery.

        ``pictures``: how many are there before it. ``text``: its infotext.
        """
        texts = [*self._texts, *[self._texts[0]] * (pictures - len(self._texts))][:pictures]
        new = [[self._result, pictures]] if self._result < pictures else []
        params = self._kept["extra_generation_params"]
        shown = {**params, PICTURES: {**params[PICTURES], "pairs": [*self._pairs, *new]}}
        return json.dumps({**self._kept, "infotexts": [*texts, text], "extra_generation_params": shown})


def _texts_of(kept: Any) -> tuple[Sequence[str], int]:
    """Return the infotexts, and the number of the first result's. Raises one of ``NOT_OURS`` for anything else."""
    texts, first = kept["infotexts"], kept.get("index_of_first_image", 0)
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise TypeError("the infotexts must be a list of texts")
    if type(first) is not int or not 0 <= first < len(texts):
        raise ValueError("the first result must be one of the pictures")
    return texts, first
