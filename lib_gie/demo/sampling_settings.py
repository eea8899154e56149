"""The sampling settings of all images of the demo model that figures are made from, chosen on the validation split."""

STEPS = 20
CFG = 4.0
SIZE = 64
"""Pixels per side."""
