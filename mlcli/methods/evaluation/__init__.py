"""Evaluation of models on labeled images."""
