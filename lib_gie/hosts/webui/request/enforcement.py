"""Reads what the admin of this WebUI has erased from every image, on the command line and in the settings.

Settings come on top of the command line and take nothing away from it. Each has its own adapter, strength, scale and
floor, and where both name a concept the stronger of each counts. Values are checked here, where they are used, because
a settings file can hold anything. One policy goes through all of it: nothing that an admin has set may mean "off". A 0,
a None or an empty list where there should be a value is an error, and then no image is made; only an empty text for the
concepts enforces nothing.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from modules import shared

from lib_gie.checks import quoted
from lib_gie.core.concepts import Concept, format_concepts, parse_concepts
from lib_gie.errors import AdapterError, ConceptError, ErasureError, GieError, OptionError
from lib_gie.hosts.library import find_adapter, is_for
from lib_gie.options import AUTOMATIC, BY_NAME, FIXED, FLOOR

from .arguments import read_concepts, read_floor, read_scale, read_strength
from .installed import adapter_folders
from .parsing import TITLE, Request

_UNSET = object()


@dataclass(frozen=True)
class Enforced:
    """Concepts that are erased from every image in one way.

    ``floor``: a scale (w <= 0, with strength and weight) that no image's is weaker than; 0 asks for nothing.
    """

    request: Request
    floor: float = FLOOR.default

    @property
    def keys(self) -> set[str]:
        """The keys of its concepts."""
        return {concept.key for concept in self.request.concepts}


@dataclass(frozen=True)
class _Wish:
    """The command line's wish, or the settings'. ``adapters``: each concept takes the one that is for it."""

    concepts: tuple[Concept, ...] = ()
    adapters: tuple[str, ...] = (BY_NAME["adapter"].default,)
    strength: float = BY_NAME["strength"].default
    scale: float = BY_NAME["scale"].default
    floor: float = FLOOR.default

    def concept(self, key: str) -> Concept | None:
        """Return its concept of this key, if there is one."""
        return next((concept for concept in self.concepts if concept.key == key), None)


def _read(where: str, read: Callable[[Any], Any], value: Any) -> Any:
    try:
        return read(value)
    except GieError as error:
        raise ErasureError(
            f"this WebUI erases concepts from every image, and {where} cannot be used: {error}. Its admin must correct "
            f"that; until then it makes no images"
        ) from error


def _read_adapter(value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise OptionError(f"the adapter is {quoted(value)}; it must be {AUTOMATIC!r}, {FIXED!r} or an adapter's name")
    return value


# -- the command line ------------------------------------------------


def _given(name: str) -> list[Any]:
    """Return the values of an argument, in their order. Anything but None was given, a 0 as well."""
    value = getattr(shared.cmd_opts, name, None)
    return value if isinstance(value, list) else [] if value is None else [value]


def _concepts(texts: Iterable[Any]) -> tuple[Concept, ...]:
    return parse_concepts(", ".join(map(read_concepts, texts)))


def _from_command_line() -> _Wish:
    texts = _given("gie_enforce")
    readers = {
        "strength": read_strength,
        "scale": read_scale,
        "floor": read_floor,
    }
    given = {name: _given(f"gie_enforce_{name}") for name in (*readers, "adapter")}
    if not texts:
        alone = [name for name, values in given.items() if values]
        if alone:
            raise ErasureError(
                f"this WebUI was started with --gie-enforce-{alone[0]} and without --gie-enforce, so it is not known "
                f"what it is to erase. Its admin must give --gie-enforce, or leave the other out"
            )
        return _Wish()
    values = {
        name: _read(f"--gie-enforce-{name}", read, given[name][-1]) for name, read in readers.items() if given[name]
    }
    if given["adapter"]:
        values["adapters"] = tuple(_read("--gie-enforce-adapter", _read_adapter, name) for name in given["adapter"])
    return _Wish(_read("--gie-enforce", _concepts, texts), **values)


# -- the settings ------------------------------------------------


def _setting(name: str, read: Callable[[Any], Any], default: Any) -> Any:
    value = getattr(shared.opts, name, _UNSET)  # a setting that is there counts, a None or 0 in it as well
    return default if value is _UNSET else _read(f"the setting {name}", read, value)


def _from_settings() -> _Wish:
    text = getattr(shared.opts, "gie_enforced_concepts", "")
    if isinstance(text, str) and not text.strip():  # not `if not text`: a 0, None or [] is a mistake, and not "none"
        return _Wish()
    return _Wish(
        _setting("gie_enforced_concepts", lambda text: _concepts([text]), ()),
        (_setting("gie_enforced_adapter", _read_adapter, BY_NAME["adapter"].default),),
        _setting("gie_enforced_strength", read_strength, BY_NAME["strength"].default),
        _setting("gie_enforced_scale", read_scale, BY_NAME["scale"].default),
        _setting("gie_enforced_floor", read_floor, FLOOR.default),
    )


def shows_enforced_scale() -> bool:
    """Tell whether infotexts, page and API show the scale that an enforced concept got.

    Only true says so: any other value in a settings file keeps the scale hidden.
    """
    return getattr(shared.opts, "gie_enforced_show_scale", False) is True


# -- both ------------------------------------------------


def _adapter_of(concept: Concept, names: Sequence[str]) -> str:
    """Return the adapter that is for a concept, else Automatic or Fixed scale if that is among the names."""
    if len(names) == 1:
        return names[0]
    for name in names:
        if name not in (AUTOMATIC, FIXED) and is_for(find_adapter(name, adapter_folders()).info, concept.key):
            return name
    general = next((name for name in names if name in (AUTOMATIC, FIXED)), None)
    if general is None:
        raise AdapterError(
            f"none of {', '.join(names)} is for {quoted(concept.text)}; add an adapter that is, {AUTOMATIC} or {FIXED}"
        )
    return general


def _requests(wish: _Wish, where: str, leaving_out: Iterable[str] = ()) -> list[Enforced]:
    """Return a request for each adapter. ``leaving_out``: keys of concepts that get none."""
    by_adapter: dict[str, list[Concept]] = {}
    for concept in wish.concepts:
        if concept.key not in leaving_out:
            name = _read(where, partial(_adapter_of, concept), wish.adapters)
            by_adapter.setdefault(name, []).append(concept)
    return [
        Enforced(Request(tuple(concepts), adapter=name, strength=wish.strength, scale=wish.scale), wish.floor)
        for name, concepts in by_adapter.items()
    ]


def _stronger(line: _Wish, settings: _Wish, first: Concept, second: Concept) -> _Wish:
    """Merge a concept of both (``first``, ``second``): the line's adapter, the stronger strength, weight and floor.

    A fixed scale of the settings counts as a floor, because the adapter is the command line's.
    """
    fixed = settings.scale * settings.strength * second.weight if settings.adapters == (FIXED,) else 0.0
    return dataclasses.replace(
        line,
        concepts=(Concept(first.text, max(first.weight, second.weight)),),
        strength=max(line.strength, settings.strength),
        floor=min(line.floor, settings.floor, fixed),
    )


def enforced_requests() -> list[Enforced]:
    """Return what is erased from every image. Raises ErasureError where it cannot be read."""
    line, settings = _from_command_line(), _from_settings()
    both = [(one, other) for one in line.concepts if (other := settings.concept(one.key)) is not None]
    keys = [one.key for one, _ in both]
    found = _requests(line, "--gie-enforce-adapter", leaving_out=keys)
    for first, second in both:
        found += _requests(_stronger(line, settings, first, second), "--gie-enforce-adapter")
    return found + _requests(settings, "the setting gie_enforced_adapter", leaving_out=keys)


def calibrates_enforced() -> bool:
    """Tell whether what is enforced is calibrated where no adapter is there for it, as the command line says."""
    return getattr(shared.cmd_opts, "gie_enforce_calibrated", None) != "off"


def tell_admin(text: str) -> None:
    """Say in the console what users are not to know of what is enforced: it would tell how to get round it."""
    print(f"{TITLE}, always erased: {text}")


def enforced_keys() -> set[str]:
    """Return the keys of the concepts that are always erased. Raises ErasureError."""
    return {key for enforced in enforced_requests() for key in enforced.keys}


def enforced_adapters() -> set[str]:
    """Return the names of the adapters that the admin has chosen for what is always erased. Raises ErasureError."""
    return {name for wish in (_from_command_line(), _from_settings()) for name in wish.adapters} - {AUTOMATIC, FIXED}


def enforced_text() -> str:
    """Return the concepts that are always erased, for people to read; also where the admin has made a mistake in them.

    A text that is not "" means that something is enforced. So a setting of 0, which is a mistake, is shown as well.
    """
    setting = getattr(shared.opts, "gie_enforced_concepts", "")
    texts = [*_given("gie_enforce"), setting]
    said = [text if isinstance(text, str) else quoted(text) for text in texts if text or text == 0]
    joined = ", ".join(text.strip() for text in said if text.strip())
    try:
        return format_concepts(parse_concepts(joined)) if joined else ""
    except ConceptError:
        return joined


def taken_by(enforced: Iterable[Enforced], request: Request) -> tuple[Concept, ...]:
    """Return those of a user's concepts that are enforced anyway."""
    keys = {key for wish in enforced for key in wish.keys}
    return tuple(concept for concept in request.concepts if concept.key in keys)


def not_enforced(request: Request, enforced: Iterable[Enforced]) -> Request | None:
    """Return a user's request without the concepts that are enforced anyway; None if nothing is left."""
    taken = taken_by(enforced, request)
    left = tuple(concept for concept in request.concepts if concept not in taken)
    return dataclasses.replace(request, concepts=left) if left else None


def erased_anyway(request: Request | None, enforced: Iterable[Enforced]) -> list[str]:
    """Say which of the user's concepts are erased as the admin wants it, whatever the request says of them."""
    taken = [] if request is None else taken_by(enforced, request)
    if not taken:
        return []
    return [
        f"this WebUI always erases {', '.join(quoted(concept.text) for concept in taken)} in the way that its admin "
        f"chose; adapter, scale, strength, steps and weight of this request do not count there"
    ]


# -- the tab ------------------------------------------------


def _is_this_machine(address: str | None) -> bool:
    return not address or address in ("localhost", "::1") or address.startswith("127.")


def tab_is_wanted() -> bool:
    """Tell whether the tab that trains adapters is offered: as the admin says, else only where nobody else comes by.

    An open address or an enforced concept keeps it away each on its own: whoever may train an adapter could train one
    that erases little.
    """
    options = shared.cmd_opts
    wanted: str | None = getattr(options, "gie_tab", None)
    if wanted is not None:
        return wanted == "on"
    open_to_others = any(getattr(options, name, None) for name in ("listen", "share", "ngrok"))
    return not (open_to_others or not _is_this_machine(getattr(options, "server_name", None)) or enforced_text())
