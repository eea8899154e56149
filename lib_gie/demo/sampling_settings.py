"""The demo model's family, and the settings of all images that figures are made from, chosen on validation."""

STEPS = 20
CFG = 4.0
SIZE = 64
"""Pixels per side."""

FAMILY = "gie-demo"
"""The demo model's family, as adapters name it."""
