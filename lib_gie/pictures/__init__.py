"""Contact sheets and attention overlays: numpy and Pillow only."""

from .attention import attention_map, overlay
from .images import picture
from .sheet import Row, contact_sheet, strip

__all__ = ["Row", "attention_map", "contact_sheet", "overlay", "picture", "strip"]
