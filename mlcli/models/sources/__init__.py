"""Where architectures and their weights come from, a file for each source."""
