"""The training loop, the run folder and what they need."""
