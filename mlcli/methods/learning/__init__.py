"""Classifiers: from scratch, from a network that is known, without labels."""
