"""mlcli: the classical image-learning methods as single-purpose shell commands."""

__version__ = "0.1.0"
