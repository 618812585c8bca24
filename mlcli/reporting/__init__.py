"""Grids of images, charts, pages."""
