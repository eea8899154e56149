"""The method itself: it needs torch and knows no host."""
