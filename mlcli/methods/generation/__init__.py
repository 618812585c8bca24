"""Generators: of images from noise, and from other images."""
