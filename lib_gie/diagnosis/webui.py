"""Whether the extension would work in a WebUI's folder, as far as its files tell. Nothing of the WebUI is imported."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import lib_gie
from lib_gie.hosts.webui.host.kinds import FORGE_OR_RELATIVE, FORGES_SAMPLING, has_module
from lib_gie.hosts.webui.host.known_extensions import KNOWN_EXTENSIONS, KnownExtension
from lib_gie.hosts.webui.request.arguments import calibrations_among, folders_among

from .files import check_adapters, check_calibrations, check_demo_model
from .finding import Finding, listing
from .webui_python import check_webui_python, first_in

_OF_ANY = ("webui.py", "modules/processing.py", "extensions")
"""What every WebUI's folder has."""

_OF_OURS = ("scripts/growth_inhibitors.py", "lib_gie/__init__.py")
"""What this extension's folder has."""

_OURS = "this extension"
_TRIED = "1.10."
_TRIED_FORGE = "2.0.1"
_READ = "docs/COMPATIBILITY.md says what was tried"
_CLONE = "clone this project into its folder extensions, and restart the WebUI"
_CHECKPOINTS = (".safetensors", ".ckpt")


def check_webui(folder: Path) -> list[Finding]:
    """Look at all that matters of a WebUI: which one it is, the extension in it, its Python, extensions and models."""
    lacking = [name for name in _OF_ANY if not (folder / name).exists()]
    if lacking:
        is_there = folder.is_dir()
        found = f"{folder} is no WebUI, it lacks {listing(lacking)}" if is_there else f"there is no folder {folder}"
        return [Finding("problem", "WebUI", found, "give the folder that webui.sh and webui-user.bat are in")]
    extensions = _Extensions.of(folder)
    return [
        check_host(folder),
        *check_extension(extensions),
        *check_webui_python(folder),
        *check_models(folder),
        *check_other_extensions(extensions),
    ]


def check_host(folder: Path) -> Finding:
    """Tell AUTOMATIC1111's WebUI, Forge and Forge's relatives apart, as the extension does when it starts."""
    if not has_module(folder, FORGE_OR_RELATIVE):
        version = first_in(r"^#+\s*v?(\d+(?:\.\d+)+)", folder / "CHANGELOG.md")
        if version.startswith(_TRIED):
            return Finding("ok", "WebUI", f"AUTOMATIC1111's, version {version}, in {folder}")
        shown = f"version {version}" if version else "of an unknown version"
        return Finding("note", "WebUI", f"{shown}, in {folder}; AUTOMATIC1111's version 1.10.1 was tried", _READ)
    if not has_module(folder, FORGES_SAMPLING):
        found = f"{folder} is a relative of Forge whose sampling is not known, so nothing can be erased there"
        return Finding("problem", "WebUI", found, "use AUTOMATIC1111's WebUI or Forge")
    version = first_in(r"version\s*=\s*['\"]([^'\"]+)", folder / "modules_forge" / "forge_version.py")
    found = f"Forge, version {version or 'unknown'}, in {folder}"
    if _TRIED_FORGE in version:
        return Finding("ok", "WebUI", found)
    return Finding("note", "WebUI", f"{found}; Forge {_TRIED_FORGE} was tried", _READ)


# -- the extension itself ------------------------------------------------


@dataclass(frozen=True)
class _Extensions:
    """The folders in a WebUI's folder extensions. ``off``: the names of those that its settings switch off."""

    folder: Path
    paths: Sequence[Path]
    off: frozenset[str]

    @classmethod
    def of(cls, webui: Path) -> _Extensions:
        """Read which extensions there are, and which of them the settings switch off."""
        folder = webui / "extensions"
        paths = sorted(path for path in folder.iterdir() if path.is_dir() or path.is_symlink())
        settings = _settings(webui / "config.json")
        disabled = settings.get("disabled_extensions")
        off = {str(name) for name in disabled} if isinstance(disabled, list) else set()
        if settings.get("disable_all_extensions") in ("all", "extra"):
            off |= {path.name for path in paths}
        return cls(folder, paths, frozenset(off))

    def ours(self) -> list[Path]:
        """Return the folders that hold this extension."""
        return [path for path in self.paths if _is_ours(path)]


def _settings(path: Path) -> dict[str, object]:
    """Return the WebUI's settings; none where there are none or they cannot be read, as the WebUI has it."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _is_ours(path: Path) -> bool:
    return all((path / name).is_file() for name in _OF_OURS)


def check_extension(extensions: _Extensions) -> list[Finding]:
    """Look for this extension: it has to be there once, in the right place, and switched on."""
    ours = extensions.ours()
    if not ours:
        return [_missing(extensions)]
    if len(ours) > 1:
        places = listing(str(path) for path in ours)
        return [Finding("problem", _OURS, f"is there {len(ours)} times: {places}", "delete all but one of them")]
    (path,) = ours
    if path.name in extensions.off:
        todo = "tick it in the tab Extensions, Installed (Disable all extensions: none), and press Apply"
        return [Finding("problem", _OURS, f"{path} is switched off in the WebUI", todo)]
    version = first_in(r"^__version__ = \"([^\"]+)\"", path / "lib_gie" / "__init__.py")
    found = [Finding("ok", _OURS, f"version {version or 'unknown'}, in {path}")]
    if version != lib_gie.__version__:
        told = f"version {version or 'unknown'}, and {lib_gie.__version__} looks at it"
        found = [Finding("note", _OURS, f"{told}; it is in {path}", "bring both to one version")]
    if path.resolve() == Path(lib_gie.__file__).resolve().parents[1]:
        return found  # its files were looked at already
    return [*found, check_demo_model(path / "models"), *check_adapters("its adapters", path / "models", "problem")]


def _missing(extensions: _Extensions) -> Finding:
    deep = [path for outer in extensions.paths if outer.is_dir() for path in outer.iterdir() if _is_ours(path)]
    if deep:
        return Finding("problem", _OURS, f"{deep[0]} is one folder too deep", f"move it to {extensions.folder}")
    broken = [path.name for path in extensions.paths if path.is_symlink() and not path.exists()]
    links = f" (links to nothing: {listing(broken)})" if broken else ""
    return Finding("problem", _OURS, f"is not in {extensions.folder}{links}", _CLONE)


# -- models and other extensions ------------------------------------------------


def check_models(folder: Path) -> list[Finding]:
    """Look at the WebUI's checkpoints, and at the user's own adapters and calibrations among its models."""
    models = folder / "models"
    own = folders_among(models)[-1]
    found = [_checkpoints(models / "Stable-diffusion")]
    if own.is_dir():
        found += check_adapters("adapters in the WebUI", own, "problem")
    if (kept := calibrations_among(models)).is_dir():
        found += check_calibrations(kept, "calibrations in the WebUI")
    return found


def _checkpoints(folder: Path) -> Finding:
    paths = sorted(folder.rglob("*")) if folder.is_dir() else []
    names = [path.name for path in paths if path.suffix in _CHECKPOINTS]
    if names:
        return Finding("ok", "checkpoints", f"{len(names)} in {folder} ({listing(names)})")
    todo = "Settings, Growth Inhibitors, Put the demo checkpoint among the checkpoints gives you one to try"
    return Finding("note", "checkpoints", f"none in {folder}", todo)


def check_other_extensions(extensions: _Extensions) -> list[Finding]:
    """Say which of the extensions beside this one were tried, and what to set there."""
    found, unknown = [], []
    for path in extensions.paths:
        known = _known(path)
        if known is not None:
            found.append(_told(known, path, path.name in extensions.off))
        elif path.is_dir() and path not in extensions.ours() and path.name not in extensions.off:
            unknown.append(path.name)
    if unknown:
        told = f"nothing is known of {listing(unknown)}"
        todo = "where such an extension hinders erasing, a generation ends with an error that says so"
        found.append(Finding("note", "other extensions", told, todo))
    return found


def _known(path: Path) -> KnownExtension | None:
    return next((one for one in KNOWN_EXTENSIONS if (path / one.file).is_file()), None)


def _told(known: KnownExtension, path: Path, is_off: bool) -> Finding:
    if is_off:
        return Finding("ok", known.name, f"{path.name}, switched off")
    if not known.advice:
        return Finding("ok", known.name, f"{path.name}, tried beside this extension")
    return Finding("note", known.name, f"{path.name}, tried beside this extension", known.advice)
