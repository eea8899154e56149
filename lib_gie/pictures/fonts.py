"""A font for texts in pictures, with every version of Pillow."""

from __future__ import annotations

from pathlib import Path

from PIL import ImageFont


def font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Return a sans serif font of this size in pixels."""
    try:
        return ImageFont.load_default(size=size)
    except TypeError:  # Pillow before 10.1, as the WebUI pins it; the WebUI has matplotlib, which brings a font
        from matplotlib import get_data_path

        return ImageFont.truetype(str(Path(get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"), size)
