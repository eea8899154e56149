"""Files of adapters in given folders: what they are called, what they are for, which one Automatic takes."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import os
import re
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from lib_gie.checks import quoted
from lib_gie.core.scales.adapter import ADAPTER
from lib_gie.core.scales.calibrated import CALIBRATED, Calibration
from lib_gie.core.scales.files import read_file
from lib_gie.core.scales.fitted import GOOD_ENOUGH, Fitted, FittedInfo
from lib_gie.core.scales.kept import fitted_header, fitted_in
from lib_gie.errors import AdapterError
from lib_gie.json_lines import identity_digest
from lib_gie.options import AUTOMATIC, FIXED

_MOST_OF_NAME = 40  # characters of a concept in a calibration's name
_DIGITS = 12  # hex digits of its digest there, where the words alone do not tell it

TRAINED_IN, TAB = "trained_in", "tab"
"""Key and value by which an adapter's file says that it was trained in the tab."""


@dataclass(frozen=True)
class InstalledAdapter:
    """One file. ``hash``: the first 10 hex digits of its SHA-256; ``digest``: of its weights alone, as in infotexts."""

    name: str
    path: Path
    hash: str
    digest: str
    adapter: Fitted

    @property
    def info(self) -> FittedInfo:
        """What the file says about itself."""
        return self.adapter.info


def _identity(path: Path) -> tuple[int, ...]:
    """Return what changes when a file is replaced or written to. Raises OSError."""
    stat = path.stat()
    return stat.st_mtime_ns, stat.st_size, stat.st_ino


@functools.lru_cache(maxsize=1024)
def _read(path: Path, identity: tuple[int, ...]) -> InstalledAdapter | str:
    """Return what is in a file, or what is wrong with it. ``identity``: makes a file that was replaced read again."""
    try:
        data = read_file(path)
        adapter = fitted_in(data, path.name)
        return InstalledAdapter(
            path.stem, path, hashlib.sha256(data).hexdigest()[:10], adapter.weights_digest[:10], adapter
        )
    except AdapterError as error:
        return str(error)


def _paths(folder: Path) -> list[Path]:
    """Return a folder's files by name, but for names that are no text; none of a folder that cannot be read."""
    try:
        return sorted(path for path in folder.glob("*.safetensors") if _is_text(path.stem))
    except OSError:
        return []


def _is_text(name: str) -> bool:
    """Tell whether a file's name can be sent and shown: one that is no UTF-8 cannot."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


SHIPPED = " (shipped)"
"""Follows the name of an adapter that comes with the extension, where the user has one of the same file name."""


def _files(folders: Sequence[Path]) -> dict[str, Path]:
    """Return the files by name. ``folders``: that of shipped adapters first, then the user's own.

    The user's files have their stems as names. A shipped one has its stem where that is free, else it is marked, so
    that none hides another. Subfolders are left out: they hold other things (the demo model).
    """
    found: dict[str, Path] = {}
    for folder in reversed(folders):
        for path in _paths(folder):
            name = path.stem
            while name in found:
                name += SHIPPED
            if name not in (AUTOMATIC, FIXED):
                found[name] = path
    return found


@functools.lru_cache(maxsize=1024)
def _is_adapter(path: Path, identity: tuple[int, ...]) -> bool:
    try:
        fitted_header(read_file(path), path.name)
    except AdapterError:
        return False
    return True


def _says_so(path: Path) -> bool:
    try:
        return _is_adapter(path, _identity(path))
    except OSError:  # it is gone, or may not be read; that can change, so it is not cached
        return False


def listed_names(folders: Sequence[Path]) -> list[str]:
    """Return the names of all files that say they are adapters; their weights are read when they are used."""
    return [name for name, path in sorted(_files(folders).items()) if _says_so(path)]


def _open(name: str, path: Path) -> InstalledAdapter:
    try:
        found = _read(path, _identity(path))
    except OSError as error:
        raise AdapterError(f"{path.name} cannot be read ({error.strerror}); choose another adapter") from error
    if isinstance(found, str):
        raise AdapterError(found)
    return dataclasses.replace(found, name=name)


def list_adapters(folders: Sequence[Path]) -> tuple[list[InstalledAdapter], dict[str, str]]:
    """Return all usable adapters, sorted by name, and by name what is wrong with the other files."""
    usable, broken = [], {}
    for name, path in sorted(_files(folders).items()):
        try:
            usable.append(_open(name, path))
        except AdapterError as error:
            broken[name] = str(error)
    return usable, broken


def find_adapter(name: str, folders: Sequence[Path], unlisted: Sequence[Path] = ()) -> InstalledAdapter:
    """Return the adapter that is listed under a name. Raises AdapterError where none is, or it cannot be used.

    ``unlisted``: folders whose files are found as well, and which no error names.
    """
    files = _files([*unlisted, *folders])
    if name not in files:  # only names of files are opened: a path can lead nowhere
        known = ", ".join([AUTOMATIC, FIXED, *sorted(_files(folders))])
        raise AdapterError(f"there is no adapter {quoted(name)}; installed are: {known}")
    return _open(name, files[name])


def is_for(info: FittedInfo, concept_key: str) -> bool:
    """Tell whether an adapter was trained for a concept (its folded text)."""
    return concept_key in {concept.casefold() for concept in info.concepts}


def is_anybodys(info: FittedInfo) -> bool:
    """Tell whether an adapter was trained in the tab, by whoever may open it."""
    return info.training.get(TRAINED_IN) == TAB


def find_recorded(name: str, digest: str | None, folders: Sequence[Path]) -> InstalledAdapter:
    """Return the adapter that an infotext names: the one of that name and those weights, else any with those weights.

    ``digest``: the weights' digest or the file's hash; None where only the name is known. Raises AdapterError where
    there is none.
    """
    files = _files(folders)
    named = _open(name, files[name]) if name in files and (digest is None or _says_so(files[name])) else None
    if named is not None and digest in (None, named.digest, named.hash):
        return named
    same = next((one for one in list_adapters(folders)[0] if digest in (one.digest, one.hash)), None)
    if same is not None:
        return same
    if named is None and f"-{CALIBRATED}-" in name:
        raise AdapterError(
            f"the calibration {quoted(name)} of this image is not here; take {AUTOMATIC}, which makes it again on its "
            f"checkpoint"
        )
    if named is None:
        raise AdapterError(f"the adapter {quoted(name)} of this image is not installed here: install it to use it")
    raise AdapterError(
        f"the adapter {quoted(name)} installed here ({named.digest}) is not this image's ({digest}): install that "
        f"one to use it"
    )


def adapter_for(
    concept_key: str, base: str, heads: Sequence[int], folders: Sequence[Path], trusted: bool = False
) -> InstalledAdapter | None:
    """Return the adapter that was trained for a concept (its folded text) on this model family, if there is one.

    Of several it is the first in ``by_choice``; those that their own training found not good enough are left out. They
    can still be taken by name. ``heads``: how many each cross-attention layer has. ``trusted``: leave out those that
    were trained in the tab, where anybody may train one that erases little.
    """
    fitting = [
        installed
        for installed in list_adapters(folders)[0]
        if installed.adapter.kind == ADAPTER
        and installed.info.base == base
        and installed.adapter.fits(base, heads)
        and is_for(installed.info, concept_key)
        and _is_good_enough(installed.info)
        and not (trusted and is_anybodys(installed.info))
    ]
    return next(iter(by_choice(fitting, folders)), None)


def _is_good_enough(info: FittedInfo) -> bool:
    """Tell whether a training found an adapter worth taking; one that does not say so is. Older ones say less."""
    return all(info.validation.get(name) is not False for name in (GOOD_ENOUGH, "better_than_constant"))


def calibration_for(
    concept_key: str, weights: str, clip_skip: float | None, folders: Sequence[Path]
) -> InstalledAdapter | None:
    """Return the calibration of a concept (its folded text) on a checkpoint, by its digest, if there is one.

    ``clip_skip``: that of the prompts, None where it is unknown; one that was made at another says nothing of them.
    """
    for installed in list_adapters(folders)[0]:
        if _is_calibration_of(installed.adapter, concept_key, weights, clip_skip):
            return installed
    return None


def _is_calibration_of(found: Fitted, concept_key: str, weights: str, clip_skip: float | None) -> bool:
    return (
        isinstance(found, Calibration)
        and found.info.weights == weights
        and found.is_for(concept_key)
        and clip_skip in (None, found.info.conditions.get("clip_skip", clip_skip))
    )


def kept_calibration(concept_key: str, weights: str, clip_skip: float | None, folder: Path) -> InstalledAdapter | None:
    """Return what ``calibration_for`` does, from the file of the name that ``calibration_name`` gives it alone.

    A folder may hold hundreds. The file is marked as used. One that is damaged, or another's, is as good as none.
    """
    name = calibration_name(concept_key, weights, clip_skip)
    path = folder / f"{name}.safetensors"
    try:
        found = _open(name, path)
    except AdapterError:
        return None
    if not _is_calibration_of(found.adapter, concept_key, weights, clip_skip):
        return None
    with suppress(OSError):  # the time of its last change stays, for that says that it is the same file
        os.utime(path, ns=(time.time_ns(), path.stat().st_mtime_ns))
    return found


def remove_oldest(folder: Path, most: int, is_spared: Callable[[FittedInfo], bool] = lambda info: False) -> list[Path]:
    """Delete the files of a folder that were used longest ago, so that ``most`` stay. Return those that are gone.

    ``is_spared``: whether a calibration has to stay, though there may be more than ``most`` then.
    """
    gone: list[Path] = []
    paths = sorted(_paths(folder), key=_used)
    for path in paths:
        if len(paths) - len(gone) <= most:
            break
        if not _is_spared(path, is_spared):
            with suppress(OSError):
                path.unlink()
                gone.append(path)
    return gone


def _is_spared(path: Path, is_spared: Callable[[FittedInfo], bool]) -> bool:
    try:
        return is_spared(_open(path.stem, path).info)
    except AdapterError:
        return False


def _used(path: Path) -> int:
    """Return when a file was last written or used, in ns; 0 for one that is gone."""
    try:
        stat = path.stat()
    except OSError:
        return 0
    return max(stat.st_atime_ns, stat.st_mtime_ns)


def calibration_name(concept_key: str, weights: str, clip_skip: float | None = None) -> str:
    """Return the name of a calibration's file, without its ending. It differs for different arguments.

    It begins with the concept's words, as far as every file system takes them.
    """
    words = "-".join(re.findall(r"[a-z0-9]+", concept_key))[:_MOST_OF_NAME]
    usual = clip_skip in (None, 1)
    digest = identity_digest(concept_key if usual else f"{concept_key} {clip_skip}")[:_DIGITS]
    plain = usual and words.replace("-", " ") == concept_key
    checkpoint, _, kept_in = weights.removeprefix("short-").partition("-")  # "float8" where it is kept in that
    return "-".join(filter(None, [words, "" if plain else digest, CALIBRATED, checkpoint[:8], kept_in]))


def by_choice(adapters: Sequence[InstalledAdapter], folders: Sequence[Path]) -> list[InstalledAdapter]:
    """Sort adapters for one concept, so that the one that Automatic takes comes first.

    The user's own (in the last folder) come before shipped ones, then those with fewer concepts before the others.
    Ties go to the newest of the user's, and to the first by name of the shipped ones.
    """

    def place(installed: InstalledAdapter) -> tuple[bool, int, int, str]:
        own = installed.path.parent == folders[-1]
        return not own, len(installed.info.concepts), -_changed(installed.path) if own else 0, installed.name

    return sorted(adapters, key=place)


def _changed(path: Path) -> int:
    """Return when a file was written, in ns; 0 for one that is gone."""
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0


def taken_for(installed: InstalledAdapter, adapters: Sequence[InstalledAdapter], folders: Sequence[Path]) -> list[str]:
    """Return the concepts for which Automatic takes ``installed`` among ``adapters``, on a model of its family.

    A calibration is taken, on its own checkpoint, where there is no adapter.
    """
    found = []
    for concept in installed.info.concepts:
        key, base = concept.casefold(), installed.info.base
        rivals = [one for one in adapters if one.adapter.kind == ADAPTER and one.info.base == base]
        best = next(iter(by_choice([one for one in rivals if is_for(one.info, key)], folders)), installed)
        if best.path == installed.path:
            found.append(concept)
    return found
