"""Files that commands write. Their places are checked before the work, and each is written whole or not at all."""

from __future__ import annotations

import errno
import io
import os
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from lib_gie.errors import OptionError

if TYPE_CHECKING:
    from PIL.Image import Image

_LONGEST_NAME = 255  # bytes, where the system does not say


def check_folder(option: str, folder: Path, files: Iterable[str] = ()) -> None:
    """Raise OptionError where these files cannot be written into the folder, which need not exist yet.

    Nothing is made or changed.
    """
    found = _look(option, folder)
    if found is not None and not stat.S_ISDIR(found.st_mode):
        raise OptionError(f"{option} is {folder}, which is a file; name a folder")
    _check_parent(option, folder / "x")
    for name in files:
        check_file(option, folder / name)


def check_file(option: str, path: Path) -> None:
    """Raise OptionError where no file can be written at this place. Nothing is made or changed."""
    found = _look(option, path)
    if found is not None and stat.S_ISDIR(found.st_mode):
        raise OptionError(f"{option}: a file is to be written to {path}, which is a folder; name another place")
    if found is not None and not _may(path, os.W_OK):
        raise OptionError(f"{option}: {path} is there and cannot be written to; name another place")
    _check_parent(option, path)


def _look(option: str, path: Path) -> os.stat_result | None:
    """Return the status of what lies at a path, None for nothing. Raises OptionError where nothing ever could."""
    try:
        return path.stat()
    except FileNotFoundError:
        if path.is_symlink() and not path.resolve().parent.is_dir():
            raise OptionError(
                f"{option}: {path} is a link into a folder that is not there; make that folder, or name another place"
            ) from None
        return None
    except NotADirectoryError:
        return None  # the check of the parents names the file
    except (OSError, ValueError) as error:
        raise _unusable(option, path, error) from error


def _check_parent(option: str, path: Path) -> None:
    """Raise OptionError unless the folder that a path is in can be written to, or can be made."""
    missing, folder = [_partial(path).name], path.absolute().parent
    while (found := _look(option, folder)) is None and folder != folder.parent:
        missing.append(folder.name)
        folder = folder.parent
    if found is None or not stat.S_ISDIR(found.st_mode):
        raise OptionError(f"{option}: {path} cannot be written, because {folder} is a file; name a place in a folder")
    if not _may(folder, os.W_OK | os.X_OK):
        raise OptionError(
            f"{option}: {path} cannot be written, because {folder} cannot be written to; name another place"
        )
    longest = _longest_name(folder)
    for name in missing:
        if len(os.fsencode(name)) > longest:
            raise OptionError(f"{option} is too long: {path.name[:20]}... has more than {longest} bytes; shorten it")


def _may(path: Path, mode: int) -> bool:
    """Tell whether this process may do that, as the user that it acts for."""
    return os.access(path, mode, effective_ids=os.access in os.supports_effective_ids)


def _longest_name(folder: Path) -> int:
    try:
        return os.pathconf(folder, "PC_NAME_MAX")
    except (AttributeError, OSError, ValueError):  # not on every system
        return _LONGEST_NAME


def _unusable(option: str, path: Path, error: Exception) -> OptionError:
    if getattr(error, "errno", None) == errno.ENAMETOOLONG:
        return OptionError(f"{option} is too long ({len(str(path))} letters); name another place")
    reason = getattr(error, "strerror", None) or error
    return OptionError(f"{option}: {str(path)[:200]!r} cannot be used ({reason}); name another place")


def _partial(path: Path) -> Path:
    """Return the path that a file is written to before it takes its place."""
    return path.with_name(f".{path.name}.partial")


def png(picture: Image) -> bytes:
    """Return a picture as the content of a PNG file."""
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG")
    return buffer.getvalue()


def write_files(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write files, by name, into a folder, which is made where it is not there. See ``write_file``."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        write_file(folder / name, data)


def write_file(path: Path, data: bytes) -> None:
    """Write one file, which stays the old one until the new one is whole. A device or pipe is written to directly."""
    path = path.resolve()
    if path.exists() and not path.is_file():
        path.write_bytes(data)
        return
    partial = _partial(path)
    try:
        partial.write_bytes(data)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
