"""The adapters and calibrations that this WebUI has: where they lie, and the names that its fields offer."""

from __future__ import annotations

from pathlib import Path

from modules import paths_internal

from lib_gie.hosts.library import InstalledAdapter, find_adapter, find_recorded, listed_names
from lib_gie.options import AUTOMATIC, FIXED

from .arguments import calibrations_among, folders_among


def adapter_folders() -> list[Path]:
    """Return where adapters lie: the shipped ones' folder, and the user's own among the WebUI's models."""
    return folders_among(paths_internal.models_path)


def calibrations_folder() -> Path:
    """Return where calibrations are kept. No field offers them: each is found by its concept and checkpoint."""
    return calibrations_among(paths_internal.models_path)


def find_named(name: str) -> InstalledAdapter:
    """Return the adapter, or calibration, of a name. Raises AdapterError where there is none that can be used."""
    return find_adapter(name, adapter_folders(), [calibrations_folder()])


def find_of_infotext(name: str, digest: str | None) -> InstalledAdapter:
    """Return what an infotext names, see ``find_recorded``."""
    return find_recorded(name, digest, [calibrations_folder(), *adapter_folders()])


def adapter_names() -> list[str]:
    """Return what the adapter fields offer. The WebUI's gradio knows no labels beside the values that are sent."""
    return [AUTOMATIC, FIXED, *listed_names(adapter_folders())]
