"""Visualization of what a network has learned."""
