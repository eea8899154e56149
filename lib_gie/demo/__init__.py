"""The demo model: a small, real Stable Diffusion trained on drawn scenes."""
