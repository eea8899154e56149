"""Puts the demo checkpoint among the WebUI's own, so that someone without any checkpoint sees erasing work."""

from __future__ import annotations

import filecmp
import shutil
from pathlib import Path

from modules import paths_internal, sd_models, shared

from lib_gie.assets import DEMO_CHECKPOINT, DEMO_CONFIG

OPTION = "gie_demo_checkpoint"
_FILES = (DEMO_CHECKPOINT, DEMO_CONFIG)


def _folder() -> Path:
    chosen = shared.cmd_opts.ckpt_dir
    return Path(chosen) if chosen else Path(paths_internal.models_path) / "Stable-diffusion"


def sync() -> None:
    """Copy the checkpoint where the setting wants it; take our copy away where it does not."""
    wanted, folder = bool(getattr(shared.opts, OPTION, False)), _folder()
    changed = False
    for source in _FILES:
        target = folder / source.name
        same = target.exists() and source.exists() and filecmp.cmp(source, target, shallow=False)
        if wanted and not same and source.exists():
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
            changed = True
        elif not wanted and same:
            target.unlink()
            changed = True
    if changed:
        sd_models.list_models()
