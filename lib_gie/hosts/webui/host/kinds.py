"""What tells kinds of WebUI apart: modules that only some have. This needs no WebUI: a folder can be asked as well."""

from __future__ import annotations

from pathlib import Path

FORGE_OR_RELATIVE = "modules_forge"
"""Forge has this, and so has everything that was made from it."""

FORGES_SAMPLING = "backend.sampling.sampling_function"
"""Forge's sampling code, which is the only one among its relatives' that is known."""


def has_module(folder: Path, module: str) -> bool:
    """Tell whether a module, by its whole name, would be found from this folder."""
    path = folder.joinpath(*module.split("."))
    return path.is_dir() or path.with_suffix(".py").is_file()
