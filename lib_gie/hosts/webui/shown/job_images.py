"""A job's images while the scripts of other extensions go over them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

from PIL import Image


def _digest(image: Any) -> bytes | None:
    if not isinstance(image, Image.Image):
        return None
    return hashlib.blake2b(image.tobytes(), salt=image.mode.encode()[:16].ljust(16), digest_size=32).digest()


class JobImages:
    """Finds again what was in ``processed.images``, which scripts replace, paint over, add to and take away from.

    ``others``: pictures that are followed without being among the job's images.
    """

    def __init__(self, processed: Any, others: Sequence[Image.Image] = ()):
        self._processed = processed
        self._before = list(processed.images)
        self._digests = {id(image): _digest(image) for image in [*self._before, *others]}
        self._others = list(others)  # kept alive, so that no other object gets its number

    def now(self, image: Image.Image) -> Any:
        """Return the picture, or the image that has taken its place; None where that cannot be told."""
        current, known = self._processed.images, self._number(self._before, image)
        if known is None or self._number(current, image) is not None:
            return image
        return None if len(current) < len(self._before) or self._have_moved() else current[known]

    def number(self, image: Image.Image) -> int | None:
        """Return where the picture, or what has taken its place, is among the job's images; None: nowhere."""
        return self._number(self._processed.images, self.now(image))

    def numbers(self, pairs: Sequence[tuple[Image.Image, Image.Image]]) -> list[tuple[int, int]]:
        """Return where pairs of pictures are among the job's images, without pairs of which one is no longer there."""
        found = [(self.number(first), self.number(second)) for first, second in pairs]
        return [(first, second) for first, second in found if first is not None and second is not None]

    def is_as_it_was(self, image: Image.Image) -> bool:
        """Tell whether nobody has changed, replaced or taken away a picture."""
        digest = self._digests.get(id(image))
        return digest is not None and digest == _digest(self.now(image))

    def take_away(self, image: Image.Image) -> None:
        """Remove the picture, or what has taken its place, and its infotext."""
        number, texts = self.number(image), self._processed.infotexts
        if number is None:
            return
        if len(texts) == len(self._processed.images):
            del texts[number]
        del self._processed.images[number]
        self._before = [one for one in self._before if one is not image]

    def replace(self, image: Image.Image, other: Image.Image) -> None:
        """Put another picture in the place of one."""
        number = self._number(self._processed.images, self.now(image))
        self._processed.images[number] = other

    def _have_moved(self) -> bool:
        found = [(number, self._number(self._processed.images, image)) for number, image in enumerate(self._before)]
        return any(now is not None and now != number for number, now in found)

    @staticmethod
    def _number(images: Sequence[Any], image: Any) -> int | None:
        return next((number for number, one in enumerate(images) if one is image), None)
