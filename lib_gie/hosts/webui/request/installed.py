"""The adapters that this WebUI has: where they lie, and the names that its fields offer."""

from __future__ import annotations

from pathlib import Path

from modules import paths_internal

from lib_gie.hosts.library import listed_names
from lib_gie.options import AUTOMATIC, FIXED

from .arguments import folders_among


def adapter_folders() -> list[Path]:
    """Return where adapters lie: the shipped ones' folder, and the user's own among the WebUI's models."""
    return folders_among(paths_internal.models_path)


def adapter_names() -> list[str]:
    """Return what the adapter fields offer. The WebUI's gradio knows no labels beside the values that are sent."""
    return [AUTOMATIC, FIXED, *listed_names(adapter_folders())]
