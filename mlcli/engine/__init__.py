"""Knows no method: images, folders, models, features, training, runs, runtime."""
