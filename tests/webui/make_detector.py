"""``python tests/webui/make_detector.py FOLDER``: a detector for ADetailer that finds something in every picture.

Needs ultralytics, as ADetailer does; use the Python that ADetailer runs in. It goes to FOLDER/models/adetailer.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from ultralytics import YOLO

NAME = "gietest.pt"  # client.py knows it, too
LEVEL = 2
"""Boxes are found at the coarsest resolution only."""


def make(path: Path) -> None:
    """The smallest of the library's networks, untrained: all its confidence is in one class's bias."""
    path.parent.mkdir(parents=True, exist_ok=True)
    detector = YOLO("yolov8n.yaml")
    with torch.no_grad():
        for level, branch in enumerate(detector.model.model[-1].cv3):
            branch[-1].weight.zero_()
            branch[-1].bias.fill_(-20.0)
            if level == LEVEL:
                branch[-1].bias[0] = 8.0
    detector.save(str(path))


if __name__ == "__main__":
    make(Path(sys.argv[1]) / "models" / "adetailer" / NAME)
