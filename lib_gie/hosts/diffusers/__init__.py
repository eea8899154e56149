"""Growth inhibitors on a diffusers pipeline: outside the WebUI, for the demo, tests, training and evaluation."""

from .growth_inhibitors import GrowthInhibitors
from .loading import load_pipeline

__all__ = ["GrowthInhibitors", "load_pipeline"]
