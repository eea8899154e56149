"""Figures of how well the demo model draws, how well concepts are erased, and how much of the rest is kept."""
