"""How images of the demo model are made wherever figures are quoted. Chosen on the validation split."""

STEPS = 20
CFG = 4.0
SIZE = 64
"""Pixels per side."""
