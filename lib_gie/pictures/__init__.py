"""Contact sheets and attention overlays: numpy and Pillow only."""

from .attention import Region, Span, attention_map, explained, overlay, region_map, step_maps, steps_sheet
from .images import picture
from .sheet import SheetRow, contact_sheet, stacked, strip

__all__ = [
    "Region",
    "SheetRow",
    "Span",
    "attention_map",
    "contact_sheet",
    "explained",
    "overlay",
    "picture",
    "region_map",
    "stacked",
    "step_maps",
    "steps_sheet",
    "strip",
]
