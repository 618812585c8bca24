"""Training of classifiers: from scratch, from a trained network, and without labels."""
