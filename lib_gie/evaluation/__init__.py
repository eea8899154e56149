"""Figures: how well the demo model draws, how well concepts are erased and the rest is kept."""
