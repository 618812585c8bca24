"""Unsupervised domain adaptation: from a labeled source domain to a target domain without labels."""
