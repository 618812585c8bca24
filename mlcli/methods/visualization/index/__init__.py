"""An index of feature vectors on disk."""
