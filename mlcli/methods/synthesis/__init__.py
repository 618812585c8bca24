"""Synthetic images, whose labels are known by construction."""
