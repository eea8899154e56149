"""The demo model, adapters and calibrations in their folders. No model's weights are read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lib_gie.assets import DEMO_CHECKPOINT, DEMO_CONFIG, DEMO_FIXED_SCALE, DEMO_TEXT_ENCODER, MODELS
from lib_gie.core.scales.calibrated import CALIBRATED
from lib_gie.errors import GieError

from .finding import Finding, Mark, listing

_AGAIN = "take models/ from a new clone of this project"
_OF_DEMO = (
    DEMO_CHECKPOINT,
    DEMO_CONFIG,
    DEMO_FIXED_SCALE,
    DEMO_TEXT_ENCODER / "config.json",
    DEMO_TEXT_ENCODER / "vocab.json",
    DEMO_TEXT_ENCODER / "merges.txt",
)


def check_here(folders: Sequence[Path], calibrations: Path) -> list[Finding]:
    """Look at the files of this installation. ``folders``: those of adapters, the shipped ones' first."""
    shipped, *own = folders
    found = [check_demo_model(shipped), *check_adapters("adapters", shipped, "problem")]
    for folder in own:
        found += check_adapters("adapters of yours", folder, "note")
    return [*found, *check_calibrations(calibrations)]


def check_demo_model(models: Path = MODELS) -> Finding:
    """Look at the demo model's files in a folder of models; of the checkpoint, at its header and length."""
    from lib_gie.hosts.diffusers.files import check_file

    paths = [models / path.relative_to(MODELS) for path in _OF_DEMO]
    lacking = [path.name for path in paths if not path.is_file()]
    if lacking:
        return Finding("problem", "demo model", f"{models / 'demo'} lacks {listing(lacking)}", _AGAIN)
    try:
        check_file(paths[0])
    except (GieError, OSError) as error:
        return Finding("problem", "demo model", str(error), _AGAIN)
    return Finding("ok", "demo model", str(paths[0]))


def check_adapters(subject: str, folder: Path, broken_mark: Mark) -> list[Finding]:
    """Look at the files of a folder: one finding for all that can be used, and one for each that cannot."""
    todo = "delete it or move it away, and get or make it again"
    found, broken = _in_folder(subject, folder)
    return [found, *(Finding(broken_mark, f"adapter {name}", why, todo) for name, why in broken.items())]


def check_calibrations(folder: Path, subject: str = "calibrations") -> list[Finding]:
    """Look at the calibrations that are kept in a folder, as ``check_adapters`` does.

    Readings of neutral prompts, which lie there as well, are not looked at: a damaged file is made again.
    """
    found, broken = _in_folder(subject, folder)
    damaged = {name: why for name, why in broken.items() if CALIBRATED in name}
    todo = "delete it; it is made again"
    return [found, *(Finding("note", f"calibration {name}", why, todo) for name, why in damaged.items())]


def _in_folder(subject: str, folder: Path) -> tuple[Finding, dict[str, str]]:
    """Return what can be used in a folder, and by name what is wrong with its other files."""
    from lib_gie.hosts.library import list_adapters

    try:
        names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    except OSError as error:
        why = f"{folder} cannot be read ({error.strerror})"
        return Finding("problem", subject, why, "change its permissions"), {}
    usable, broken = list_adapters([folder]) if names else ([], {})
    listed = f" ({listing(one.name for one in usable)})" if usable else ""
    return Finding("ok", subject, f"{len(usable) or 'none'} in {folder}{listed}"), broken
