"""What can go wrong, each with a message that says what was found, what was expected and what to do."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


class GieError(Exception):
    """Base of all errors raised on purpose by this project."""


class ConceptError(GieError, ValueError):
    """A concept text that cannot be used: empty, a bad weight, too many tokens."""


class AdapterError(GieError, ValueError):
    """An adapter file that cannot be used: broken, of another format, for another architecture."""


class UnsupportedModelError(GieError):
    """A model whose attention layers growth inhibitors cannot be injected into."""


class ErasureError(GieError, RuntimeError):
    """Erasure was asked for and could not be done; the image must not be shown as erased."""


class OptionError(GieError, ValueError):
    """A scale, strength, range or mode outside what is allowed."""


@contextmanager
def told_to(tell: Callable[[Any], None], kind: type[BaseException] = BaseException) -> Iterator[None]:
    """Tell of an error of this kind that is raised within the context, and let it pass on: a host may swallow it."""
    try:
        yield
    except kind as error:
        tell(error)
        raise
