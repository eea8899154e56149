"""The paths of the files that come with the project. No other module knows where they lie.

In a checkout, which is also what the WebUI has as an extension, ``models/`` lies beside this package. In an installed
package it lies within. This module imports nothing heavy: the WebUI's start reads it ahead of everything else.
"""

from __future__ import annotations

import os
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


def models_folder(package: Path) -> Path:
    """Return the folder of adapters and of the demo model that belongs to the package in that folder.

    The folder within comes first: another project's ``models`` may lie beside an installed package.
    """
    within = package / "models"
    return within if within.is_dir() else package.parent / "models"


def own_folder(package: Path = _PACKAGE) -> Path:
    """Return the folder for adapters that a person trains and names: ``models/`` of a checkout, else the current one.

    An installed package is no place for them: its next version replaces it.
    """
    return Path() if (package / "models").is_dir() else models_folder(package)


def adapter_folders() -> list[Path]:
    """Return the folders with adapters, the user's own last; a checkout has one for both."""
    own = own_folder()
    return [MODELS] if own.resolve() == MODELS.resolve() else [MODELS, own]


def calibrations_folder() -> Path:
    """Return where commands and pipelines keep calibrations: a folder for caches. The WebUI has a folder of its own."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "growth-inhibitors"


MODELS = models_folder(_PACKAGE)
"""Shipped adapters, ``NAME.safetensors`` each."""

DEMO = MODELS / "demo"
DEMO_CHECKPOINT = DEMO / "gie-demo.safetensors"
DEMO_CONFIG = DEMO / "gie-demo.yaml"
"""The demo checkpoint's architecture, for the WebUI and diffusers."""

DEMO_FIXED_SCALE = DEMO / "fixed_scale.json"
DEMO_TEXT_ENCODER = DEMO / "text_encoder"
"""The demo model's config.json, and the tokenizer of SD 1.x, which is the same for all its models."""

SD1_CONFIG = _PACKAGE / "hosts" / "diffusers" / "sd1.yaml"
"""SD 1.x's architecture, for checkpoint files that have no .yaml beside them."""

WORLD_GLYPHS = _PACKAGE / "demo" / "world" / "glyphs.png"
"""The pictures that the demo model's scenes are drawn from."""

WORLD_SPLITS = _PACKAGE / "demo" / "world" / "splits.json"
"""Prompts and seeds of the demo model: training, validation, held out."""

PROMPT_LISTS = _PACKAGE / "training" / "prompts"
"""Starter lists of prompts to label, ``NAME.txt`` each."""

NEUTRAL_PROMPTS = PROMPT_LISTS / "neutral"
"""Lists of prompts that have nothing to do with any concept, ``FAMILY.txt`` for a model family's own."""
