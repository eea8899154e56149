"""Reads what a generation in the WebUI is asked to erase from a script's arguments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from lib_gie.checks import quoted
from lib_gie.core.concepts import Concept, parse_concepts
from lib_gie.errors import OptionError
from lib_gie.options import BY_NAME, OPTIONS, ErasureSettings

TITLE = BY_NAME["enabled"].label


@dataclass(frozen=True)
class Request:
    """One generation's request, checked. ``adapter`` is "Automatic", "Fixed scale" or a file's name.

    The other fields are those of OPTIONS, with their defaults. Raises OptionError where start is not below end.
    """

    concepts: tuple[Concept, ...]
    adapter: str = BY_NAME["adapter"].default
    strength: float = BY_NAME["strength"].default
    scale: float = BY_NAME["scale"].default
    start: float = BY_NAME["start"].default
    end: float = BY_NAME["end"].default
    concept_pass: str = BY_NAME["concept_pass"].default
    hires: str = BY_NAME["hires"].default
    keep_composition: bool = BY_NAME["keep_composition"].default
    composition_cross: float = BY_NAME["composition_cross"].default
    composition_self: float = BY_NAME["composition_self"].default
    show_before: bool = BY_NAME["show_before"].default
    show_attention: bool = BY_NAME["show_attention"].default
    rule: str = BY_NAME["rule"].default

    def __post_init__(self) -> None:
        _ = self.settings  # raises

    @cached_property
    def settings(self) -> ErasureSettings:
        """The strength, the steps, the concept pass and the erasing rule, as an erasure takes them."""
        return ErasureSettings(self.strength, self.start, self.end, self.concept_pass, rule=self.rule)


def _from_mapping(values: Mapping[str, Any]) -> dict[str, Any]:
    unknown = [key for key in values if key not in BY_NAME]
    if unknown:
        raise OptionError(f"unknown argument {quoted(unknown[0])}; known are: {', '.join(BY_NAME)}")
    return {**values, "enabled": True if values.get("enabled") is None else values["enabled"]}


def _named(args: Sequence[Any]) -> dict[str, Any]:
    """Return arguments by name, from positions or from a dict in the first place (the page's defaults may follow)."""
    if args and isinstance(args[0], Mapping):
        return _from_mapping(args[0])
    if len(args) > len(OPTIONS):
        raise OptionError(f"{len(args)} arguments were given; there are {len(OPTIONS)}: {', '.join(BY_NAME)}")
    return {option.name: value for option, value in zip(OPTIONS, args, strict=False)}


def read_request(args: Sequence[Any], overrides: Mapping[str, Any] | None = None) -> Request | None:
    """Return the request in a script's arguments; None if erasing is switched off.

    ``args``: positional values in the order of OPTIONS (None stands for the default), or one dict with their names,
    in which ``enabled`` defaults to true. ``overrides``: values by name that take precedence (X/Y/Z axes); they switch
    erasure on.

    Raises OptionError or ConceptError for whatever cannot be understood while erasure is asked for.
    """
    values = _named(args)
    if overrides:
        values |= {**_from_mapping(overrides), "enabled": True}
    if not BY_NAME["enabled"].read(values.pop("enabled", None)):
        return None
    checked = {option.name: option.read(values.get(option.name)) for option in OPTIONS[1:]}
    return Request(parse_concepts(checked.pop("concepts")), **checked)


def check_api_arguments(args: Any) -> None:
    """Raise OptionError or ConceptError for arguments that the WebUI would misunderstand silently, and for bad values.

    ``args``: the request's ``alwayson_scripts`` entry: {"args": [...]}.
    """
    if not isinstance(args, Mapping) or not isinstance(args.get("args"), (list, tuple)):
        raise OptionError(
            f'the entry for "{TITLE}" in alwayson_scripts is {quoted(args)}; it must be '
            f'{{"args": [true, "knife"]}} or {{"args": [{{"concepts": "knife"}}]}}'
        )
    unknown = [key for key in args if key != "args"]
    if unknown:
        raise OptionError(
            f'unknown key {quoted(unknown[0])} beside "args" for "{TITLE}" in alwayson_scripts; leave it out'
        )
    values = args["args"]
    if values and isinstance(values[0], Mapping) and len(values) > 1:
        raise OptionError(f"a dict of arguments must be the only argument; {len(values)} were given")
    read_request(values)
