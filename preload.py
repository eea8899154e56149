"""Read by the WebUI before anything else."""

import os
from pathlib import Path


def preload(parser):
    """Add the command-line argument, and tell the demo checkpoint's .yaml where its text encoder lies."""
    os.environ["GIE_DEMO_TEXT_ENCODER"] = str(Path(__file__).resolve().parent / "models" / "demo" / "text_encoder")
    parser.add_argument(
        "--gie-enforce",
        metavar="CONCEPTS",
        default=None,
        help='concepts that growth inhibitors erase from every image, for example: "nudity, gore"',
    )
