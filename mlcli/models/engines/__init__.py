"""Engines: what computes a network, torch or another library that is faster on some hardware."""
