"""What samples images: diffusers pipelines and WebUIs, each with the core on it."""
