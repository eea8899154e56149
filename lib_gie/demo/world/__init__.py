"""The demo world: what its images show, in which styles, how captions speak of them, and how they are seen."""
