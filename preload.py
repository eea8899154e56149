"""Read by the WebUI before anything else."""

import os
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent


def preload(parser):
    """Add the command-line arguments, and tell the demo checkpoint's .yaml where its text encoder lies."""
    os.environ["GIE_DEMO_TEXT_ENCODER"] = str(HERE / "models" / "demo" / "text_encoder")
    from modules.paths_internal import models_path

    sys.path.insert(0, str(HERE))
    try:
        from lib_gie.webui.arguments import add_arguments
    finally:
        sys.path.remove(str(HERE))
    add_arguments(parser, models_path)
