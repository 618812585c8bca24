"""Which parts of an image the answer of a network depends on, one file for each method of the literature."""
