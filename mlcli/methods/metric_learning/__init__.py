"""Distances between images, learned from identities."""
