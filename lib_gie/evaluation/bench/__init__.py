"""Speed: what a step, a layer and a labelling cost."""
