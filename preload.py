"""Read by the WebUI before anything else."""

import os
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent


def preload(parser):
    """Add the command-line arguments, and tell the demo checkpoint's .yaml where its text encoder lies."""
    sys.path.insert(0, str(HERE))
    try:
        from lib_gie.assets import DEMO_TEXT_ENCODER
        from lib_gie.hosts.webui.request.arguments import add_arguments
    finally:
        sys.path.remove(str(HERE))
    os.environ["GIE_DEMO_TEXT_ENCODER"] = str(DEMO_TEXT_ENCODER)
    from modules.paths_internal import models_path

    add_arguments(parser, models_path)
