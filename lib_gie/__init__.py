"""Growth inhibitors: erase a concept from a diffusion model's images while they are made.

The modules directly in this package are the core: they need torch and know no host (DESIGN, part 3).
"""

__version__ = "0.1.0"
