"""The WebUI itself: its model, its denoiser, and what other extensions do to them."""
