"""Metric learning: distances between images, learned from images labeled by identity."""
