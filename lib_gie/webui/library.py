"""The adapters that are installed: where they lie, what they are called, what they are for."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..adapter import Adapter, AdapterInfo, load_adapter, read_header
from ..checks import quoted
from ..errors import AdapterError
from .options import AUTOMATIC, FIXED


@dataclass(frozen=True)
class InstalledAdapter:
    """One file. ``hash``: the first 10 hex digits of its SHA-256; ``digest``: of its weights alone, as in infotexts."""

    name: str
    path: Path
    hash: str
    digest: str
    adapter: Adapter

    @property
    def info(self) -> AdapterInfo:
        """What the file says about itself."""
        return self.adapter.info


@functools.lru_cache(maxsize=256)
def _read(path: Path, changed: int, size: int) -> InstalledAdapter:
    """``changed``, ``size``: a file that was replaced is read again."""
    adapter = load_adapter(path)
    return InstalledAdapter(
        path.stem, path, hashlib.sha256(path.read_bytes()).hexdigest()[:10], adapter.digest[:10], adapter
    )


def _files(folders: Sequence[Path]) -> dict[str, Path]:
    """Files by stem; of two with one name the first folder's counts. Subfolders hold other things (the demo model)."""
    found: dict[str, Path] = {}
    for folder in folders:
        for path in sorted(folder.glob("*.safetensors")) if folder.is_dir() else ():
            if path.stem not in (AUTOMATIC, FIXED):
                found.setdefault(path.stem, path)
    return found


@functools.lru_cache(maxsize=256)
def _is_adapter(path: Path, changed: int, size: int) -> bool:
    try:
        read_header(path)
    except AdapterError:
        return False
    return True


def _says_so(path: Path) -> bool:
    try:
        stat = path.stat()
        return _is_adapter(path, stat.st_mtime_ns, stat.st_size)
    except OSError:  # gone, or not ours to read; nothing that is kept
        return False


def listed_names(folders: Sequence[Path]) -> list[str]:
    """Names of all files that say they are adapters; their weights are read when they are used."""
    return [name for name, path in sorted(_files(folders).items()) if _says_so(path)]


def _open(path: Path) -> InstalledAdapter:
    try:
        stat = path.stat()
        return _read(path, stat.st_mtime_ns, stat.st_size)
    except OSError as error:
        raise AdapterError(f"{path.name} cannot be read ({error.strerror}); choose another adapter") from error


def list_adapters(folders: Sequence[Path]) -> tuple[list[InstalledAdapter], dict[str, str]]:
    """All usable adapters by name, and for files that are none their name and what is wrong with them."""
    usable, broken = [], {}
    for name, path in sorted(_files(folders).items()):
        try:
            usable.append(_open(path))
        except AdapterError as error:
            broken[name] = str(error)
    return usable, broken


def find_adapter(name: str, folders: Sequence[Path]) -> InstalledAdapter:
    """The adapter with this name (a file's stem). Raises AdapterError where there is none or it cannot be used."""
    files = _files(folders)
    if name not in files:  # only listed names are opened: a path can lead nowhere
        known = ", ".join([AUTOMATIC, FIXED, *sorted(files)])
        raise AdapterError(f"there is no adapter {quoted(name)}; installed are: {known}")
    return _open(files[name])


def find_recorded(name: str, digest: str | None, folders: Sequence[Path]) -> InstalledAdapter:
    """The adapter that an infotext names: of that name and with the same weights, else one with those weights.

    ``digest``: None where only the name is known; a file's hash is taken as well. Raises AdapterError where there is
    none.
    """
    files = _files(folders)
    named = _open(files[name]) if name in files and (digest is None or _says_so(files[name])) else None
    if named is not None and digest in (None, named.digest, named.hash):
        return named
    same = next((one for one in list_adapters(folders)[0] if digest in (one.digest, one.hash)), None)
    if same is not None:
        return same
    if named is None:
        raise AdapterError(f"the adapter {quoted(name)} of this image is not installed here")
    raise AdapterError(f"the adapter {quoted(name)} installed here ({named.digest}) is not this image's ({digest})")


def adapter_for(concept_key: str, base: str, heads: Sequence[int], folders: Sequence[Path]) -> InstalledAdapter | None:
    """The adapter that was trained for a concept (its folded text) on this model family, if there is one.

    ``heads``: of each cross-attention layer. Of several the one with the fewest other concepts, then the first by name.
    """
    fitting = [
        installed
        for installed in list_adapters(folders)[0]
        if installed.info.base == base
        and installed.info.reading.count(heads) == installed.info.inputs
        and concept_key in {concept.casefold() for concept in installed.info.concepts}
    ]
    return min(fitting, key=lambda installed: len(installed.info.concepts), default=None)
