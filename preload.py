"""Read by the WebUI before anything else: tells the demo checkpoint's .yaml where its text encoder lies."""

import os
from pathlib import Path


def preload(parser):
    """The WebUI's hook for command-line arguments."""
    os.environ["GIE_DEMO_TEXT_ENCODER"] = str(Path(__file__).resolve().parent / "models" / "demo" / "text_encoder")
