"""Chooses, once, whose ways the WebUI has that runs this."""

from __future__ import annotations

from . import forge
from .a1111 import AUTOMATIC1111
from .contract import WebUI

HOST: WebUI = forge.Forge() if forge.is_here() else AUTOMATIC1111()
